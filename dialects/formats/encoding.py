"""
Encoding whole arrays: element x block x scales x packing, in pieces that fit a cache.

Rows hold the reduction axis. Each step is one NumPy operation over a piece of about
`PIECE` values, written into reused scratch, so peak memory does not depend on the tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .definition import Minifloat, Nested, Plane, Uniform
from .elements import encode_linear
from .extents import Inputs, as_blocks, refuse_non_finite
from .layout import Parts, block_columns, padded_count
from .minifloats import Floats, encode_magnitudes
from .nested import PLANES, split_halves
from .packing import pack_codes
from .scales import (
    BlockScales,
    Extent,
    clip_candidates,
    clip_error,
    derive_scales,
    second_level_scale,
)
from .scratch import Scratch

if TYPE_CHECKING:
    from .number_format import Format

PIECE = 1 << 18

Range = tuple[float, float]
"""The least and the greatest value of a tensor."""


def encode_rows(fmt: Format, rows: NDArray[Any], tensor_range: Range | None = None) -> Parts:
    """
    The stored parts of [rows, K]; `Format.part_specs` gives their shapes.

    `tensor_range` decides scales of the whole tensor in place of the values.
    """
    count, k = rows.shape
    given = None if tensor_range is None else scales_of_range(fmt, tensor_range)
    parts = {
        name: np.empty(shape, kind) for name, (shape, kind) in fmt.part_specs(count, k).items()
    }
    if rows.size == 0:
        for part in parts.values():
            part.fill(1)
        return parts
    if isinstance(fmt.element, Nested | Plane):
        return _encode_planes(fmt, rows, parts)
    tensor = given or _measured_scales(fmt, rows)
    for name, value in tensor.stored.items():
        parts[name][...] = value
    folded, folded_parts = _fold(fmt, rows, parts)
    scratch = Scratch()
    for start, piece in _pieces(folded, scratch):
        stop = start + len(piece)
        encoded = _encode_piece(fmt, piece, tensor, scratch)
        for name, value in encoded.items():
            folded_parts[name][start:stop] = value
    return parts


def _encode_planes(fmt: Format, rows: NDArray[Any], parts: Parts) -> Parts:
    """Both planes of a nested half, or the one that a view keeps."""
    step = max(1, PIECE // max(rows.shape[1], 1))
    for start in range(0, len(rows), step):
        piece = rows[start : start + step].astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            halves = piece.astype(np.float16)
        _refuse_out_of_range(fmt, piece, halves)
        planes = dict(zip(PLANES, split_halves(halves.view(np.uint16)), strict=True))
        for name, part in parts.items():
            part[start : start + step] = planes[name]
    return parts


def _fold(fmt: Format, rows: NDArray[Any], parts: Parts) -> tuple[NDArray[Any], Parts]:
    """Blocks as rows where they tile the bytes, so that a piece never depends on the row length."""
    size, k = fmt.block_size, rows.shape[1]
    if not isinstance(size, int) or k % size or size % 8 or not rows.flags.c_contiguous:
        return rows, parts
    blocks = rows.size // size
    folded = {
        name: part.reshape(blocks, -1)
        for name, part in parts.items()
        if name not in fmt.tensor_roles
    }
    return rows.reshape(blocks, size), folded


def _pieces(rows: NDArray[Any], scratch: Scratch) -> Iterator[tuple[int, Floats]]:
    """Runs of rows as C-contiguous float32; a piece is valid until the next one is asked for."""
    step = max(1, PIECE // rows.shape[1])
    for start in range(0, len(rows), step):
        piece = rows[start : start + step]
        if piece.dtype != np.float32 or not piece.flags.c_contiguous:
            wide = scratch.array("piece", piece.shape, np.float32)
            np.copyto(wide, piece, casting="unsafe")
            piece = wide
        yield start, piece


@dataclass(frozen=True, slots=True)
class TensorScales:
    """What is derived once for the whole tensor: a per-tensor block's scales, a second level."""

    stored: dict[str, Any] = field(default_factory=dict)
    blocks: BlockScales | None = None
    second_level: np.float32 | None = None


def scales_of_range(fmt: Format, tensor_range: Range) -> TensorScales:
    """
    The scales of a tensor whose least and greatest values are `tensor_range`.

    Raises UsageError for a format without such scales and for what is no range of float32.
    """
    if not fmt.takes_range:
        raise UsageError(
            "format-takes-no-range",
            f"{fmt.spelling} has no scale that the range of a tensor decides",
            why="its scales belong to rows or blocks, are fixed, or need more than the range; "
            "or values beyond it would become infinite",
            next_step="choose a format with a scale for the tensor, such as int8 with group=tensor",
        )
    with np.errstate(over="ignore"):
        least, most = (np.float32(end) for end in tensor_range)
    if not (np.isfinite(least) and np.isfinite(most) and least <= most):
        raise UsageError(
            "format-tensor-range",
            f"{tensor_range[0]}…{tensor_range[1]} is no range of finite float32 values",
            next_step="give the least and then the greatest value",
        )
    low, high = (np.array([max(end, np.float32(0))], np.float32) for end in (-least, most))
    return _derived(fmt, Extent(low, high), None)


def _measured_scales(fmt: Format, rows: NDArray[Any]) -> TensorScales:
    if not fmt.tensor_roles:
        return TensorScales()
    extent = _tensor_extent(fmt, rows)
    clip = None
    if fmt.block_size == "tensor":
        pieces = (piece.reshape(1, -1) for _, piece in _pieces(rows, Scratch()))
        clip = _searched_clip(fmt, extent, pieces)
    return _derived(fmt, extent, clip)


def _derived(fmt: Format, extent: Extent, clip: Floats | None) -> TensorScales:
    blocks, stored, second_level = None, {}, None
    if fmt.second_level is not None:
        largest = float(extent.of("all")[0])
        second_level = second_level_scale(
            fmt.second_level, fmt.element, fmt.block_scales[0], largest
        )
        stored[fmt.second_level.role] = second_level
    if fmt.block_size == "tensor":
        blocks = derive_scales(fmt, extent, tensor_scale=second_level, clip=clip)
        stored |= blocks.stored
    return TensorScales(stored, blocks, second_level)


def _tensor_extent(fmt: Format, rows: NDArray[Any]) -> Extent:
    low = high = np.float32(0)
    square = magnitude = 0.0
    for _, piece in _pieces(rows, Scratch()):
        low, high = max(low, -piece.min()), max(high, piece.max())
        if fmt.needs_means:
            square += float(np.einsum("ij,ij->", piece, piece, dtype=np.float64))
            magnitude += float(np.abs(piece).sum(dtype=np.float64))
    extent = Extent(np.array([low], np.float32), np.array([high], np.float32))
    refuse_non_finite(extent)
    if not fmt.needs_means:
        return extent
    means = (np.array([total / rows.size]) for total in (square, magnitude))
    return Extent(extent.low, extent.high, *means)


def _encode_piece(fmt: Format, piece: Floats, tensor: TensorScales, scratch: Scratch) -> Parts:
    """The parts of some rows, sized to their blocks."""
    rows, k = piece.shape
    size, columns = block_columns(fmt.block_size, k)
    blocks = as_blocks(piece, size, columns, scratch)
    inputs = Inputs(fmt, blocks, scratch)
    refuse_non_finite(inputs.extent)
    scales = tensor.blocks
    if scales is None:
        clip = _searched_clip(fmt, inputs.extent, (blocks,))
        scales = derive_scales(fmt, inputs.extent, tensor_scale=tensor.second_level, clip=clip)
    codes = _encode_elements(fmt, inputs, scales, scratch)
    encoded = {"codes": _pack_rows(fmt, codes.reshape(rows, columns * size)[:, :k], scratch)}
    if tensor.blocks is None:
        for role, stored in scales.stored.items():
            encoded[role] = stored.reshape(rows, columns)
    return encoded


def _encode_elements(
    fmt: Format, inputs: Inputs, scales: BlockScales, scratch: Scratch
) -> NDArray[np.unsignedinteger]:
    shape, element = inputs.blocks.shape, fmt.element
    codes = scratch.array("codes", shape, fmt.code_type)
    if isinstance(element, Minifloat):
        if inputs.by_sign is not None:
            magnitudes = _scale_by_sign(inputs.by_sign, scales)
        else:
            magnitudes = _scaled(inputs.magnitudes, scales, inputs.magnitudes)
        encode_magnitudes(element, magnitudes, codes, scratch)
        _set_signs(element, inputs.blocks, codes, scratch)
        return codes
    if isinstance(element, Nested | Plane):
        raise TypeError("nested elements are split, not encoded")
    scaled = _scaled(inputs.blocks, scales, scratch.array("scaled", shape, np.float32))
    zero_point = None if scales.zero_point is None else scales.zero_point[:, None]
    encode_linear(element, scaled, zero_point, codes, scratch)
    return codes


def _scaled(values: Any, scales: BlockScales, out: Any) -> Floats:
    if not scales.scales:
        if out is not values:
            np.copyto(out, values)
        return out
    scale = scales.scales[0]
    operation = np.multiply if scale.multiply else np.divide
    with np.errstate(over="ignore", under="ignore"):
        return operation(values, scale.factor[:, None], out=out)


def _scale_by_sign(by_sign: tuple[Floats, Floats], scales: BlockScales) -> Floats:
    """Each element is zero on one side, so both quotients are exact summands."""
    for values, scale in zip(by_sign, scales.scales, strict=True):
        operation = np.multiply if scale.multiply else np.divide
        with np.errstate(over="ignore", under="ignore"):
            operation(values, scale.factor[:, None], out=values)
    above, below = by_sign
    return np.add(above, below, out=above)


def _set_signs(element: Minifloat, blocks: Floats, codes: Any, scratch: Scratch) -> None:
    negative = scratch.array("reached", blocks.shape, np.bool_)
    np.less(blocks.view(np.int32), np.int32(0), out=negative)
    signs = scratch.array("signs", codes.shape, codes.dtype)
    np.copyto(signs, negative)
    if not element.signed_zero:
        np.greater(codes, 0, out=negative)
        np.bitwise_and(signs, negative, out=signs)
    np.negative(signs, out=signs)
    np.bitwise_and(signs, codes.dtype.type(1 << (element.bits - 1)), out=signs)
    np.bitwise_or(codes, signs, out=codes)


def _pack_rows(fmt: Format, codes: Any, scratch: Scratch) -> NDArray[np.uint8]:
    rows, k = codes.shape
    padded = padded_count(k)
    if padded != k or not codes.flags.c_contiguous:
        wide = scratch.array("padded codes", (rows, padded), codes.dtype)
        wide[:, :k] = codes
        wide[:, k:] = 0
        codes = wide
    if fmt.bits > 8:
        return codes.astype(codes.dtype.newbyteorder("<"), copy=False).view(np.uint8)
    return pack_codes(codes, fmt.stored_bits)


def _searched_clip(fmt: Format, extent: Extent, pieces: Iterable[Floats]) -> Floats | None:
    """The candidate of least squared error for each block, where the format asks for a search."""
    if not isinstance(fmt.element, Uniform) or fmt.block_scales[0].value != "mse":
        return None
    candidates = clip_candidates(fmt.block_scales[0], extent)
    errors = np.zeros(candidates.shape)
    for piece in pieces:
        for index, clip in enumerate(candidates.T):
            errors[:, index] += clip_error(fmt.element, piece, clip)
    best = np.take_along_axis(candidates, errors.argmin(axis=1)[:, None], axis=1)[:, 0]
    return best


def _refuse_out_of_range(fmt: Format, piece: Floats, halves: NDArray[np.float16]) -> None:
    assert fmt.admits is not None
    magnitudes = np.abs(piece)
    refuse_non_finite(Extent(magnitudes, magnitudes))
    if np.abs(halves).max() >= fmt.admits.limit:
        raise UsageError(
            "format-range",
            f"{fmt.name} cannot hold a magnitude of {magnitudes.max():g}, "
            f"only those below {fmt.admits.limit:g}",
            why="its upper plane would read as NaN or lose an exponent bit",
            next_step="keep this tensor in fp16",
        )

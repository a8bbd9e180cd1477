"""Decoding stored parts: codes out of their bytes, values out of their codes, times the scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .definition import Nested, Plane
from .elements import element_values
from .layout import Parts, block_columns
from .minifloats import Floats
from .nested import merge_planes
from .packing import unpack_codes
from .scales import decode_scale

if TYPE_CHECKING:
    from .number_format import Format

PIECE = 1 << 16


def decode_rows(fmt: Format, parts: Parts, k: int) -> Floats:
    """float32 [rows, K], exact for what was stored."""
    count = len(parts[fmt.code_part])
    out = np.empty((count, k), np.float32)
    step = max(1, PIECE // max(k, 1))
    for start in range(0, count, step):
        rows = slice(start, start + step)
        piece = {
            name: part if name in fmt.tensor_roles else part[rows] for name, part in parts.items()
        }
        out[rows] = _decode_piece(fmt, piece, k)
    return out


def row_codes(fmt: Format, parts: Parts, k: int) -> NDArray[np.unsignedinteger]:
    """Unsigned codes [rows, K] of stored parts."""
    if isinstance(fmt.element, Nested):
        return merge_planes(parts["upper"], parts["lower"])
    if isinstance(fmt.element, Plane):
        return parts[fmt.element.part]
    packed = np.ascontiguousarray(parts["codes"])
    if fmt.bits > 8:
        return packed.view(f"<u{fmt.bits // 8}")[:, :k]
    return unpack_codes(packed, fmt.stored_bits)[:, :k]


def _decode_piece(fmt: Format, parts: Parts, k: int) -> Floats:
    codes = row_codes(fmt, parts, k)
    if fmt.bits == 32:
        return np.ascontiguousarray(codes).view(np.float32)
    size, columns = block_columns(fmt.block_size, k)
    shape = len(codes), columns, size
    values = _as_blocks(np.take(element_values(fmt.element), codes), shape)
    if fmt.zero_point is not None:
        offsets = parts["zero_point"].astype(np.float32)[:, :, None]
        shifted = fmt.zero_point_codes()
        if not shifted.all():
            offsets = offsets * _as_blocks(np.take(shifted, codes).astype(np.float32), shape)
        values = values - offsets
    return _apply_scales(fmt, values, parts).reshape(len(codes), columns * size)[:, :k]


def _as_blocks(values: Floats, shape: tuple[int, int, int]) -> Floats:
    rows, columns, size = shape
    k = values.shape[1]
    if columns * size == k:
        return values.reshape(shape)
    padded = np.zeros((rows, columns * size), np.float32)
    padded[:, :k] = values
    return padded.reshape(shape)


@np.errstate(over="ignore")
def _apply_scales(fmt: Format, values: Floats, parts: Parts) -> Floats:
    """
    Second-level factors multiply the block scale first (formats.md 4.4, hazard 11).

    What rounding lifted beyond the largest float32 becomes infinity.
    """
    factors: list[Any] = []
    for scale in fmt.block_scales:
        factor = decode_scale(scale.type, parts[scale.role])
        if fmt.second_level is not None:
            factor = factor * parts[fmt.second_level.role].reshape(())
        factors.append(factor[:, :, None])
    if not factors:
        return values
    if fmt.splits_signs:
        above = np.maximum(values, np.float32(0))
        below = np.minimum(values, np.float32(0))
        return above * factors[0] + below * factors[1]  # one summand of each is zero
    if fmt.block_scales[0].rule == "inverse":
        return values / factors[0]
    return values * factors[0]

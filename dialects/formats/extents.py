"""Blocks and their extents: what an encoder looks at before it can choose scales."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError
from .definition import Minifloat
from .minifloats import Floats
from .scales import Extent
from .scratch import Scratch

if TYPE_CHECKING:
    from .number_format import Format


def as_blocks(piece: Floats, size: int, columns: int, scratch: Scratch) -> Floats:
    """[rows * columns, size], zeros after the end of a row: they widen no extent."""
    rows, k = piece.shape
    if columns * size == k:
        return piece.reshape(rows * columns, size)
    padded = scratch.array("padded", (rows, columns * size), np.float32)
    padded[:, :k] = piece
    padded[:, k:] = 0
    return padded.reshape(rows * columns, size)


class Inputs:
    """A piece's blocks, its magnitudes where the element wants them, and its extent."""

    def __init__(self, fmt: Format, blocks: Floats, scratch: Scratch) -> None:
        self.blocks = blocks
        self.magnitudes: Floats | None = None
        self.by_sign: tuple[Floats, Floats] | None = None
        shape = blocks.shape
        if fmt.splits_signs:
            above = scratch.array("above", shape, np.float32)
            below = scratch.array("below", shape, np.float32)
            np.maximum(blocks, scratch.filled("zero", shape, np.float32(0)), out=above)
            np.abs(above, out=above)  # clears the sign of zeros and NaNs
            with np.errstate(invalid="ignore"):  # infinities are refused a little later
                np.subtract(above, blocks, out=below)
            self.by_sign = above, below
            self.extent = Extent(_block_max(below, scratch), _block_max(above, scratch))
        elif isinstance(fmt.element, Minifloat) or fmt.symmetric_extent:
            self.magnitudes = scratch.array("magnitude", shape, np.float32)
            np.abs(blocks, out=self.magnitudes)
            largest = _block_max(self.magnitudes, scratch)
            self.extent = Extent(largest, largest)
        else:
            low, high = _block_ends(blocks, scratch)
            self.extent = Extent(np.maximum(-low, np.float32(0)), np.maximum(high, np.float32(0)))
        if fmt.needs_means:
            square = np.einsum("ij,ij->i", blocks, blocks, dtype=np.float64) / shape[1]
            mean = np.abs(blocks).mean(axis=1, dtype=np.float64)
            self.extent = replace(
                self.extent,
                mean_square=square,
                mean_magnitude=mean,
            )


def _block_max(values: Floats, scratch: Scratch) -> Floats:
    """
    Maximum of each row of magnitudes, which order as their bit patterns do, and faster.

    A NaN without sign is above everything.
    """
    return _reduce_rows(np.maximum, values.view(np.int32), scratch).view(np.float32)


def _block_ends(values: Floats, scratch: Scratch) -> tuple[Floats, Floats]:
    """Minimum and maximum of each row; NaN if any is."""
    return _reduce_rows(np.minimum, values, scratch), _reduce_rows(np.maximum, values, scratch)


def _reduce_rows(operation: np.ufunc, values: Any, scratch: Scratch) -> Any:
    """
    Each row reduced to one number.

    Short rows are halved pairwise over the flat array: NumPy's own reduction pays for every row.
    """
    rows, size = values.shape
    if size > 128 or size & (size - 1):
        return operation.reduce(values, axis=1)
    level = values.reshape(-1)
    while size > 1:
        size //= 2
        halved = scratch.array(f"halved {size}", (rows * size,), values.dtype)
        level = operation(level[0::2], level[1::2], out=halved)
    return level.copy()


def refuse_non_finite(extent: Extent) -> None:
    if np.isfinite(extent.low).all() and np.isfinite(extent.high).all():
        return
    raise UsageError(
        "format-non-finite",
        "the array to quantize holds a NaN or an infinity, or a float64 beyond float32",
        why="one such value would spoil the scale of every value that shares it",
        next_step="replace or clip non-finite values, or keep this tensor in full precision",
    )

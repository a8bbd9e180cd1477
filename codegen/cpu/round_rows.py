"""
Walking rows of fp32 block by block, with the scales of each block at hand.

What quantization does to a row, up to what becomes of the rounded elements: the kernels that
leave values (round_kernel.py) and those that leave packed rows (append_kernel.py) both end here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...dialects.bindings import vector
from ...dialects.formats import Format
from ...dialects.rounding.elements import (
    larger,
)
from ...dialects.rounding.scales import (
    Extent,
    Scaling,
    derive_scaling,
    second_level_scale,
    static_scaling,
)
from .emit import (
    LANES,
    Ptr,
    Val,
    absolute,
    floats,
    i1,
    lane_mask,
    lane_max,
    lanes,
    repeat,
    scalar,
    size,
    splat,
)

UNROLLED = 8

Length = int | Val
Visit = Callable[[Val, Val | None, Sequence[Val]], Sequence[Val]]
VisitBlock = Callable[[Val, Length, Scaling], None]


@dataclass(frozen=True, slots=True)
class Rounding:
    """
    A format, and the length of the rows it is applied to; None is known at run time only.

    `static` where the scales of the whole tensor are given. The range itself is no part of this,
    so that all layers share one kernel.
    """

    format: Format
    row: int | None
    static: bool = False

    @property
    def key(self) -> str:
        return f"round {self.format.spelling} row={self.row} static={self.static}"

    @property
    def per_tensor(self) -> bool:
        """Whether the block scales are those of the whole tensor."""
        return self.format.block_size == "tensor"

    @property
    def reads_blocks(self) -> bool:
        """Whether the scales of a block depend on its values."""
        return any(scale.reads_values for scale in self.format.block_scales)

    @property
    def reads_tensor(self) -> bool:
        """Whether the extent of the whole tensor must be found first."""
        level = self.format.second_level
        from_level = level is not None and level.reads_values
        return not self.static and (from_level or (self.per_tensor and self.reads_blocks))


class BlockScaling:
    """
    Emission of one rounding's scales.

    What belongs to the whole tensor is emitted on construction; `extent` is the tensor's, for
    formats that need it, and `numbers` the address of its `static_numbers` where it is static.
    """

    def __init__(
        self, rounding: Rounding, extent: Extent | None = None, *, numbers: Ptr | None = None
    ) -> None:
        self.format = rounding.format
        self._tensor_scale: Val | None = None
        self._common: Scaling | None = None
        if numbers is None:
            self._find(rounding, extent or _empty())
        elif rounding.per_tensor:
            self._common = static_scaling(self.format, lambda index: numbers.at(index).load())
        else:
            self._tensor_scale = numbers.load()

    def _find(self, rounding: Rounding, extent: Extent) -> None:
        level = self.format.second_level
        if level is not None:
            self._tensor_scale = second_level_scale(self.format, level, extent)
        if not rounding.reads_blocks or rounding.per_tensor:
            self._common = self._derive(extent)

    def each_block(self, x: Ptr, length: Length, visit: VisitBlock) -> None:
        """visit(start, length, scaling) for the blocks of the row at `x`, in order."""
        block = self.format.block_size
        if not isinstance(block, int):
            visit(size(0), length, self._of(x, length))
            return
        whole, rest = length // block * block, length % block

        @repeat(0, whole, block)
        def _(start: Val) -> None:
            visit(start, block, self._of(x.at(start), block))

        if rest != 0:
            start = whole if isinstance(whole, Val) else size(whole)
            visit(start, rest, self._of(x.at(start), rest))

    def _of(self, x: Ptr, length: Length) -> Scaling:
        if self._common is not None:
            return self._common
        magnitudes_only = self.format.symmetric_extent and not self.format.splits_signs
        return self._derive(extent_of(x, length, magnitudes_only))

    def _derive(self, extent: Extent) -> Scaling:
        return derive_scaling(self.format, extent, self._tensor_scale)


def extent_of(x: Ptr, length: Length, magnitudes_only: bool) -> Extent:
    """The extent of `length` floats; with `magnitudes_only`, both sides are the larger one."""

    def widen_magnitude(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
        return [larger(absolute(load(x.at(k), mask)), carried[0])]

    def widen_ends(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
        values = load(x.at(k), mask)
        return [larger(-values, carried[0]), larger(values, carried[1])]

    if magnitudes_only:
        (largest,) = walk(length, widen_magnitude, [splat(0.0)])
        both = lane_max(largest)
        return Extent(both, both)
    low, high = walk(length, widen_ends, [splat(0.0), splat(0.0)])
    return Extent(lane_max(low), lane_max(high))


def _empty() -> Extent:
    """For scales that look at no values."""
    return Extent(scalar(0.0), scalar(0.0))


def walk(length: Length, visit: Visit, carry: Sequence[Val] = ()) -> Sequence[Val]:
    """
    Visit the vectors of `length` floats in order: visit(k, mask, carried) returns the values to
    carry on. `mask` is None where every lane is inside.
    """
    whole, rest = length // LANES * LANES, length % LANES
    end = whole if isinstance(whole, Val) else size(whole)
    carry = _walk_whole(whole, visit, carry)
    if isinstance(rest, Val):
        return visit(end, lane_mask(rest), carry)
    if rest:
        return visit(end, Val(vector.constant_mask(lanes(i1()), [rest])), carry)
    return carry


def _walk_whole(whole: Length, visit: Visit, carry: Sequence[Val]) -> Sequence[Val]:
    if isinstance(whole, int) and whole <= UNROLLED * LANES:
        for k in range(0, whole, LANES):
            carry = visit(size(k), None, carry)
        return carry

    @repeat(0, whole, LANES, carry=carry)
    def results(k: Val, *carried: Val) -> Sequence[Val]:
        return visit(k, None, carried)

    return results


def load(address: Ptr, mask: Val | None) -> Val:
    return address.load(floats()) if mask is None else address.load_while(mask)


def store(address: Ptr, mask: Val | None, value: Val) -> None:
    if mask is None:
        address.store(value)
    else:
        address.store_while(mask, value)

"""
The kernels of dynamic quantization: y = decode(encode(x)) for rows of fp32, block by block.

A block is read twice: once for its extent, from which its scales are derived, and once to round
its elements; nothing but fp32 values reaches memory. Scales of the whole tensor need a kernel
before that, which leaves the extents of a fixed number of pieces; each thread of the rounding
kernel then folds those few numbers. Maxima are exact, so neither the number of threads nor the
order of their work shows in a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...dialects.bindings import vector
from ...dialects.formats import Format
from ...dialects.formats.definition import Minifloat, Nested
from .emit import (
    LANES,
    Ptr,
    Val,
    absolute,
    f32,
    floats,
    i1,
    lane_mask,
    lane_max,
    lanes,
    minimum,
    repeat,
    scalar,
    select,
    size,
    splat,
)
from .library import Arguments, KernelLibrary
from .round_elements import keep_non_finite, larger, positive_zero, round_linear, round_signed
from .round_scales import Extent, Scaling, derive_scaling, reads_values, second_level_scale

PIECES = 64
UNROLLED = 8

Length = int | Val
Visit = Callable[[Val, Val | None, Sequence[Val]], Sequence[Val]]


@dataclass(frozen=True, slots=True)
class Rounding:
    """A format, and the length of the rows it is applied to; None is known at run time only."""

    format: Format
    row: int | None

    @property
    def key(self) -> str:
        return f"round {self.format.spelling} row={self.row}"

    @property
    def per_tensor(self) -> bool:
        """Whether the block scales are those of the whole tensor."""
        return self.format.block_size == "tensor"

    @property
    def reads_blocks(self) -> bool:
        """Whether the scales of a block depend on its values."""
        return any(reads_values(scale) for scale in self.format.block_scales)

    @property
    def reads_tensor(self) -> bool:
        """Whether the extent of the whole tensor must be known first."""
        level = self.format.second_level
        from_level = level is not None and isinstance(level.value, str)
        return from_level or (self.per_tensor and self.reads_blocks)


def rounding_launcher(library: KernelLibrary, rounding: Rounding) -> str:
    """
    Arguments: x, y, the row length, the extents of the tensor's pieces (0 where not needed);
    total is the number of rows.
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        x, y, pieces = (arguments.address(index, f32()) for index in (0, 1, 3))
        length = arguments.integer(2) if rounding.row is None else rounding.row
        rows = _Rows(rounding, pieces)

        @repeat(begin, end)
        def _(row: Val) -> None:
            rows.round_row(x.at(row * length), y.at(row * length), length)

    return library.launcher(rounding.key, 4, emit)


def extent_launcher(library: KernelLibrary) -> str:
    """
    Arguments: x, the extents to write, the number of elements of x; total is PIECES.

    Piece p's largest magnitudes below and above zero go to places p and PIECES + p.
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        x, pieces = arguments.address(0, f32()), arguments.address(1, f32())
        count = arguments.integer(2)
        step = (count + (PIECES * LANES - 1)) // (PIECES * LANES) * LANES

        @repeat(begin, end)
        def _(piece: Val) -> None:
            start = minimum(piece * step, count)
            length = minimum(count - start, step)
            extent = _extent(x.at(start), length, magnitudes_only=False)
            pieces.at(piece).store(extent.low)
            pieces.at(piece + PIECES).store(extent.high)

    return library.launcher("extent", 3, emit)


class _Rows:
    """Emission of one rounding; what belongs to the whole tensor is emitted on construction."""

    def __init__(self, rounding: Rounding, pieces: Ptr) -> None:
        self.rounding = rounding
        self.format = rounding.format
        extent = _tensor_extent(pieces) if rounding.reads_tensor else None
        level = self.format.second_level
        self.tensor_scale: Val | None = None
        if level is not None:
            self.tensor_scale = second_level_scale(self.format, level, extent or _empty())
        self.scaling: Scaling | None = None
        if not rounding.reads_blocks or rounding.per_tensor:
            self.scaling = self._derive(extent or _empty())

    def round_row(self, x: Ptr, y: Ptr, length: Length) -> None:
        block = self.format.block_size
        if not isinstance(block, int):
            self._round_block(x, y, length)
            return
        whole, rest = length // block * block, length % block

        @repeat(0, whole, block)
        def _(start: Val) -> None:
            self._round_block(x.at(start), y.at(start), block)

        if rest != 0:
            self._round_block(x.at(whole), y.at(whole), rest)

    def _round_block(self, x: Ptr, y: Ptr, length: Length) -> None:
        scaling = self.scaling
        if scaling is None:
            magnitudes_only = self.format.symmetric_extent and not self.format.splits_signs
            scaling = self._derive(_extent(x, length, magnitudes_only))

        def round_one(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
            values = _load(x.at(k), mask)
            rounded = keep_non_finite(values, self._rounded(values, scaling))
            _store(y.at(k), mask, rounded)
            return carried

        _walk(length, round_one)

    def _derive(self, extent: Extent) -> Scaling:
        return derive_scaling(self.format, extent, self.tensor_scale).widened()

    def _rounded(self, x: Val, scaling: Scaling) -> Val:
        element, factors = self.format.element, scaling.factors
        if isinstance(element, Minifloat | Nested):
            magnitude = _by_sign(x, absolute(x), [factor.scaled for factor in factors])
            value = round_signed(element, x, magnitude)
        else:
            scaled = _by_sign(x, x, [factor.scaled for factor in factors])
            value = round_linear(element, scaled, scaling.zero_point)
        restored = _by_sign(x, value, [factor.restored for factor in factors])
        # The reference adds the two signs' values, one of which is +0.
        return positive_zero(restored) if self.format.splits_signs else restored


def _by_sign(x: Val, value: Val, change: Sequence[Callable[[Val], Val]]) -> Val:
    """`value` as it is, changed, or changed in one way where x > 0 and in another elsewhere."""
    if not change:
        return value
    if len(change) == 1:
        return change[0](value)
    above, below = (one(value) for one in change)
    return select(x.compare("gt", 0.0), above, below)


def _extent(x: Ptr, length: Length, magnitudes_only: bool) -> Extent:
    """The extent of `length` floats; with `magnitudes_only`, both sides are the larger one."""

    def widen_magnitude(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
        return [larger(absolute(_load(x.at(k), mask)), carried[0])]

    def widen_ends(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
        values = _load(x.at(k), mask)
        return [larger(-values, carried[0]), larger(values, carried[1])]

    if magnitudes_only:
        (largest,) = _walk(length, widen_magnitude, [splat(0.0)])
        both = lane_max(largest)
        return Extent(both, both)
    low, high = _walk(length, widen_ends, [splat(0.0), splat(0.0)])
    return Extent(lane_max(low), lane_max(high))


def _tensor_extent(pieces: Ptr) -> Extent:
    return Extent(
        _extent(pieces, PIECES, magnitudes_only=True).high,
        _extent(pieces.at(PIECES), PIECES, magnitudes_only=True).high,
    )


def _empty() -> Extent:
    """For scales that look at no values."""
    return Extent(scalar(0.0), scalar(0.0))


def _walk(length: Length, visit: Visit, carry: Sequence[Val] = ()) -> Sequence[Val]:
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


def _load(address: Ptr, mask: Val | None) -> Val:
    return address.load(floats()) if mask is None else address.load_while(mask)


def _store(address: Ptr, mask: Val | None, value: Val) -> None:
    if mask is None:
        address.store(value)
    else:
        address.store_while(mask, value)

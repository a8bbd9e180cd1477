"""
Activations as integers: rows of fp32 rounded to at most eight bits, for exact dot products.

A row becomes signed bytes, the scale of each of its blocks, and the sum of each segment of its
codes, which takes out again what was added to weights to make them unsigned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...dialects.formats import Format
from ...dialects.formats.definition import Integer
from ...dialects.formats.layout import block_columns
from ...dialects.rounding.blocks import encoded
from ...dialects.rounding.scales import Scaling
from .emit import (
    LANES,
    Ptr,
    Val,
    constant,
    f32,
    i8,
    i32,
    lane_sum,
    lanes,
    repeat,
    size,
    splat,
    truncate,
    widen_signed,
)
from .library import Arguments, KernelLibrary
from .round_kernel import block_scaling
from .round_rows import Length, Rounding, load, walk

PADDING = 64
CLEARED = 32


@dataclass(frozen=True, slots=True)
class IntegerRows:
    """
    Rows of `k` values, blocks of which are integers times a scale; `segment` are summed at a time.

    An integer is `digits` signed bytes, the most significant first. Those of a row and a place
    follow each other, and then zeros, up to a pitch that keeps neighbours in different places of
    the cache: i8 [m, digits, pitch]; scales are f32 [m, blocks], sums i32 [m, segments, digits].
    Sums are multiplied by `factor`. With `whole_sums` there is one a segment, of the integers
    themselves: their products, of all digits, add up to 32 bits. Integers of several digits are at
    most `largest`. With `short_blocks`, blocks of a negative scale have one digit less, in the
    first places.
    """

    k: int
    block: int
    segment: int
    digits: int = 1
    factor: int = 1
    whole_sums: bool = False
    largest: int = 0
    short_blocks: bool = False

    @property
    def sums_of_segment(self) -> int:
        return 1 if self.whole_sums else self.digits

    @property
    def pitch(self) -> int:
        return -(-self.k // PADDING) * PADDING + PADDING

    @property
    def blocks(self) -> int:
        return -(-self.k // self.block)

    @property
    def segments(self) -> int:
        return -(-self.k // self.segment)

    @property
    def widths(self) -> tuple[int, int, int]:
        """Words of 32 bits that codes, scales and sums take in each row."""
        return self.digits * self.pitch // 4, self.blocks, self.segments * self.sums_of_segment

    @property
    def key(self) -> str:
        sizes = f"{self.k} block={self.block} segment={self.segment}"
        digits = f"digits={self.digits} up to {self.largest} whole sums={self.whole_sums}"
        return f"{sizes} {digits} short={self.short_blocks} factor={self.factor}"

    def clear_end(self, codes: Ptr) -> None:
        """Write zeros behind the place where a row's codes will end, and a few before it."""
        codes.at(self.k // CLEARED * CLEARED).store(constant(0, lanes(i8(), CLEARED)))


def x_blocks(fmt: Format, k: int) -> tuple[int, int]:
    """(values of a block, blocks) of rows in `fmt`."""
    return block_columns(fmt.block_size, k)


def integer_rows_launcher(library: KernelLibrary, rows: IntegerRows, rounding: Rounding) -> str:
    """
    Arguments: x, codes, scales, sums, what is known of the tensor as for `rounding_launcher`;
    total is the number of rows.

    A block that holds a value which is not finite gets the scale NaN.
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        x, codes = arguments.address(0, f32()), arguments.address(1, i8())
        scales, sums = arguments.address(2, f32()), arguments.address(3, i32())
        scaling = block_scaling(rounding, arguments.address(4, f32()))

        @repeat(begin, end)
        def _(row: Val) -> None:
            target = codes.at(row * rows.pitch)
            rows.clear_end(target)
            of_row = scales.at(row * rows.blocks)

            def encode(start: Val, length: Length, scaling: Scaling) -> None:
                source = x.at(row * rows.k + start)
                scale = _encode_block(rounding.format, source, target.at(start), length, scaling)
                of_row.at(start // rows.block).store(scale)

            scaling.each_block(x.at(row * rows.k), rows.k, encode)
            _sum_segments(rows, target, sums.at(row * rows.segments))

    return library.launcher(f"integers {rounding.key} {rows.key}", 5, emit)


def _encode_block(fmt: Format, x: Ptr, codes: Ptr, length: Length, scaling: Scaling) -> Val:
    """Store the codes of a block; returns its scale."""
    wide, spare = scaling.widened(LANES), 32 - fmt.bits

    def encode(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
        values = load(x.at(k), mask)
        code = (encoded(fmt, values, wide) << spare).shift_right_signed(spare)
        codes.at(k).store(truncate(code, i8()))
        return [carried[0] + values * 0.0]

    (poison,) = walk(length, encode, [splat(0.0)])
    element = fmt.element
    assert isinstance(element, Integer)
    return scaling.factors[0].decode * 2.0**-element.fraction_bits + lane_sum(poison)


def _sum_segments(rows: IntegerRows, codes: Ptr, sums: Ptr) -> None:
    def store(segment: Val, length: int) -> None:
        width = LANES if length % LANES == 0 else 4
        start = codes.at(segment * rows.segment)

        @repeat(0, length, width, carry=[constant(0, lanes(i32(), width))])
        def total(k: Val, total: Val) -> Val:
            return total + widen_signed(start.at(k).load(lanes(i8(), width)), i32())

        sums.at(segment).store(lane_sum(total[0]) * rows.factor)

    whole, rest = divmod(rows.k, rows.segment)

    @repeat(0, whole)
    def _(segment: Val) -> None:
        store(segment, rows.segment)

    if rest:
        store(size(whole), rest)

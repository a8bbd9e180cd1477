"""
Rows of fp32 as integers of two or three bytes: integer dot products can stand for fp32 ones.

Each block of a row is rounded to multiples of its scale, q = 65536 d0 + 256 d1 + d2 or 256 d0 + d1
with signed bytes as digits. A layer spends a byte dot product on each digit.

Error bound. u is 2^-24; sums of k products in fp32 may err by k u sum |w x|, and |d| is what
rounding moves an x by. A block has the fewest digits for which one of these holds:

    two digits     |d| <= max |x| / 64000 <= k u mean |x|, of the block: its products move by at
                   most k u mean |x| sum |w|, as k additions do where values of x are alike
    three digits   |d| <= k u |x| but for an eighth of the values, the smallest ones, for which
                   |d| <= 1.005 / L max |x|: products move by at most k u sum |w x| and 1.005 / L
                   max |x| times the sum of an eighth of the |w|. L is 2^23 less a little; where
                   weights are so small that sums of q times them fit 32 bits with a smaller L,
                   two thirds of that

What follows is exact but for a conversion, two products and an addition a block. Any other block
(with outliers beside which most values are small, or of subnormal, huge or not finite values) gets
the scale 0, which tells the layer to compute with the floats themselves. Scales of blocks of two
digits are negative, as are their digits then.

Two digits are tried where a layer says so (dialects/cpu/x_bytes.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...dialects.rounding.elements import BIAS, EXPONENT_BITS, MANTISSA, bits_of, float_of
from .emit import (
    Ptr,
    Val,
    absolute,
    broadcast,
    constant,
    f32,
    float_to_signed,
    i8,
    i32,
    lane_sum,
    maximum,
    repeat,
    round_even,
    scalar,
    select,
    size,
    splat,
    truncate,
    widen_signed,
    words,
)
from .integer_rows import IntegerRows
from .library import Arguments, KernelLibrary
from .panel_reader import PanelReader
from .round_rows import extent_of, load, walk

DIGITS = 3
SHORTEST, LONGEST = 16, 64
# In shorter rows the bound is so tight that many blocks are not split.
LEAST_K = 256
# Which part of a block's values may move further than k additions would move them, and how far:
# half a step and a rounding, as a part of the largest, which is at least half the largest integer.
MOVED, FURTHEST = 1 / 8, 1.005
# Every digit's lowest value, and nearly the largest integer: that has 127 for each digit.
LOWEST, LARGEST = 0x808080, 0x7F7F70
# Smaller ones are not worth what they save.
LEAST_LARGEST = 0x500000
# The leading bit of the largest integer.
TOP = 22
# Of two digits, whose scale need be no power of two: fp32 holds every multiple of it.
SHORT_LARGEST = 0x7F00
# How far rounding then moves a value, as a part of the largest: half a step, and what the inverse
# and its product are off by, a hundredth of that. The largest has a finite inverse.
SHORT_MOVED, SHORT_SMALLEST = 1 / 64000, 2.0**-100
# Sums of products with integers, which are multiplied by the scales of weights last, stay finite.
LARGEST_X = 2.0**100


def split_rows(
    weight: PanelReader, factor: int, reach: int | None = None, x_bytes: int = DIGITS
) -> IntegerRows | None:
    """
    How rows that meet `weight` are split, None if its blocks are too short to gain by it.

    Blocks have at least `x_bytes` digits.

    Integers of `weight` that are at most `reach` may make sums of whole integers possible.
    """
    segment = LONGEST
    if weight.blocks > 1:
        fitting = range(weight.unit, LONGEST + 1, weight.unit)
        segment = max((n for n in fitting if weight.block % n == 0), default=0)
    if segment < SHORTEST or weight.k < LEAST_K:
        return None
    fitting_sums = (2**31 - 1) // (reach * segment) - 1 if reach else 0
    whole_sums = fitting_sums >= LEAST_LARGEST
    largest = min(LARGEST, fitting_sums) if whole_sums else LARGEST
    many = LONGEST // segment if weight.blocks > 1 and weight.small_scales else 1
    return IntegerRows(
        weight.k,
        segment * many,
        segment,
        DIGITS,
        factor,
        whole_sums,
        largest,
        short_blocks=x_bytes < DIGITS,
    )


def split_rows_launcher(library: KernelLibrary, rows: IntegerRows) -> str:
    """Arguments: x, then codes, scales and sums of `rows`; total is the number of rows."""

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        x, codes = arguments.address(0, f32()), arguments.address(1, i8())
        scales, sums = arguments.address(2, f32()), arguments.address(3, i32())
        whole, rest = divmod(rows.k, rows.block)

        @repeat(begin, end)
        def _(row: Val) -> None:
            source, target = x.at(row * rows.k), codes.at(row * (DIGITS * rows.pitch))
            for digit in range(DIGITS):
                rows.clear_end(target.at(digit * rows.pitch))
            of_row = sums.at(row * (rows.segments * rows.sums_of_segment))

            def split(block: Val, length: int) -> None:
                start = block * rows.block
                of_block = of_row.at(block * (rows.block // rows.segment * rows.sums_of_segment))
                scale = _split_block(rows, source.at(start), target.at(start), of_block, length)
                scales.at(row * rows.blocks + block).store(scale)

            @repeat(0, whole)
            def _(block: Val) -> None:
                split(block, rows.block)

            if rest:
                split(size(whole), rest)

    return library.launcher(f"split {rows.key}", 4, emit)


def _split_block(rows: IntegerRows, x: Ptr, codes: Ptr, sums: Ptr, length: int) -> Val:
    """Store the digits of a block and the sums of its segments; returns its scale."""
    largest = extent_of(x, length, magnitudes_only=True).high
    scale, inverse = _power_of_two(largest, rows.largest)
    step, steps = broadcast(scale), broadcast(inverse)
    admitted = _admitted(rows)
    furthest = broadcast(largest * (FURTHEST / rows.largest))
    short = _short_block(rows, x, length, largest) if rows.short_blocks else None

    def split(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
        values = load(x.at(k), mask)
        integers = round_even(values * steps)
        # Both products and the difference are exact; NaN compares as false.
        moved = absolute(values - integers * step)
        kept = moved.compare("le", absolute(values) * admitted)
        far = select(moved.compare("le", furthest), splat(1.0), splat(float(length + 1)))
        numbers = float_to_signed(integers, i32())
        if short is not None:
            numbers = select(short.fits, short.integers(values) << 8, numbers)
        digits = _digits(numbers)
        for place, digit in enumerate(digits):
            codes.at(k + place * rows.pitch).store(digit)
        summed = [numbers] if rows.whole_sums else [widen_signed(digit, i32()) for digit in digits]
        totals = [total + one for total, one in zip(carried[1:], summed, strict=True)]
        return [carried[0] + select(kept, splat(0.0), far), *totals]

    moved = splat(0.0)
    zeros = [constant(0, words())] * rows.sums_of_segment
    for number, start in enumerate(range(0, length, rows.segment)):
        count = min(rows.segment, length - start)
        moved, *totals = walk(
            count, lambda k, mask, carried, start=start: split(k + start, mask, carried),
            [moved, *zeros],
        )  # fmt: skip
        for place, total in enumerate(totals, number * rows.sums_of_segment):
            summed = lane_sum(total)
            if short is not None and rows.whole_sums:
                summed = select(short.fits, summed.shift_right_signed(8), summed)
            sums.at(place).store(summed * rows.factor)
    few_moved = lane_sum(moved).compare("le", length * MOVED)
    if short is not None:
        few_moved, scale = few_moved | short.fits, select(short.fits, short.scale, scale)
    splits = few_moved & largest.compare("le", LARGEST_X)
    return select(splits, scale, scalar(0.0))


def _admitted(rows: IntegerRows) -> float:
    """What part of a value additions may move its products by."""
    return min(rows.k, 1 << 22) * 2.0**-24


@dataclass(frozen=True, slots=True)
class _ShortBlock:
    """A block in two digits: its scale, the inverse, and whether it `fits`."""

    scale: Val
    inverse: Val
    fits: Val

    def integers(self, values: Val) -> Val:
        return float_to_signed(round_even(values * broadcast(self.inverse)), i32())


def _short_block(rows: IntegerRows, x: Ptr, length: int, largest: Val) -> _ShortBlock:
    scale, inverse = largest * (-1 / SHORT_LARGEST), scalar(-SHORT_LARGEST) / largest

    def add(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
        return [carried[0] + absolute(load(x.at(k), mask))]

    (sums,) = walk(length, add, [splat(0.0)])
    # NaN compares as false.
    alike = (largest * SHORT_MOVED).compare("le", lane_sum(sums) * (_admitted(rows) / length))
    return _ShortBlock(scale, inverse, alike & largest.compare("ge", SHORT_SMALLEST))


def _power_of_two(largest: Val, most: int) -> tuple[Val, Val]:
    """The scale with which `largest` becomes an integer of at most `most`, and its inverse."""
    with_margin = largest * ((1 << TOP + 1) / most)
    # The exponent; as low as lets scale and inverse be normal numbers.
    exponent = bits_of(with_margin) & EXPONENT_BITS
    exponent = maximum(exponent, constant((TOP + 1) << MANTISSA, exponent.type))
    scale = exponent - (TOP << MANTISSA)
    return float_of(scale), float_of(constant(2 * BIAS << MANTISSA, scale.type) - scale)


def _digits(integers: Val) -> list[Val]:
    """The balanced digits of integers (i32 lanes) as i8 lanes, the most significant first."""
    digits = (integers + LOWEST) ^ LOWEST
    return [truncate(digits >> 8 * place, i8()) for place in reversed(range(DIGITS))]

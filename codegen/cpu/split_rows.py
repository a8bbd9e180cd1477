"""
Rows of fp32 as integers of three bytes, so that integer dot products can stand for fp32 ones.

Each block of a row is rounded to multiples of a power of two, its scale: q = 65536 d0 + 256 d1 +
d2 with signed bytes as digits, the last place at most 2^-22 of the block's largest value.

Error bound. In a block that is split, rounding moves a value x by at most k 2^-24 |x|, but for an
eighth of the values, the smallest ones, which move by at most 1.01 * 2^-23 of the block's largest.
So sums of products move by at most k 2^-24 sum |w x|, which is what k additions in fp32 may err by,
and for each block 1.01 * 2^-23 max |x| times the sum of an eighth of its |w|. What follows is exact
but for a conversion, two products and an addition a block. Any other block (with outliers beside
which most values are small, or of subnormal, huge or not finite values) gets the scale 0, which
tells the layer to compute with the floats themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

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
# Which part of a block's values may move further than k additions would move them, and how far, as
# a part of its largest.
MOVED, FURTHEST = 1 / 8, 1.01 * 2.0**-23
# Every digit's lowest value, and nearly the largest integer: that has 127 for each digit.
LOWEST, LARGEST = 0x808080, 0x7F7F70
# The leading bit of the largest integer.
TOP = 22
# Sums of products with integers, which are multiplied by the scales of weights last, stay finite.
LARGEST_X = 2.0**100


def split_rows(weight: PanelReader, factor: int) -> IntegerRows | None:
    """How rows that meet `weight` are split, None if its blocks are too short to gain by it."""
    block = LONGEST
    if weight.blocks > 1:
        fitting = range(weight.unit, LONGEST + 1, weight.unit)
        block = max((n for n in fitting if weight.block % n == 0), default=0)
    if block < SHORTEST or weight.k < LEAST_K:
        return None
    return IntegerRows(weight.k, block, block, DIGITS, factor)


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

            def split(block: Val, length: int) -> None:
                start = block * rows.block
                scale, totals = _split_block(rows, source.at(start), target.at(start), length)
                scales.at(row * rows.blocks + block).store(scale)
                of_block = sums.at((row * rows.segments + block) * DIGITS)
                for digit, total in enumerate(totals):
                    of_block.at(digit).store(total * rows.factor)

            @repeat(0, whole)
            def _(block: Val) -> None:
                split(block, rows.block)

            if rest:
                split(size(whole), rest)

    return library.launcher(f"split {rows.key}", 4, emit)


def _split_block(rows: IntegerRows, x: Ptr, codes: Ptr, length: int) -> tuple[Val, list[Val]]:
    """Store the digits of a block; returns its scale and the sum of each digit."""
    largest = extent_of(x, length, magnitudes_only=True).high
    scale, inverse = _power_of_two(largest)
    step, steps = broadcast(scale), broadcast(inverse)
    admitted, furthest = min(rows.k, 1 << 22) * 2.0**-24, broadcast(largest * FURTHEST)

    def split(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
        values = load(x.at(k), mask)
        integers = round_even(values * steps)
        # Both products and the difference are exact; NaN compares as false.
        moved = absolute(values - integers * step)
        kept = moved.compare("le", absolute(values) * admitted)
        far = select(moved.compare("le", furthest), splat(1.0), splat(float(length + 1)))
        digits = _digits(float_to_signed(integers, i32()))
        for place, digit in enumerate(digits):
            codes.at(k + place * rows.pitch).store(digit)
        totals = [
            total + widen_signed(digit, i32())
            for total, digit in zip(carried[1:], digits, strict=True)
        ]
        return [carried[0] + select(kept, splat(0.0), far), *totals]

    moved, *totals = walk(length, split, [splat(0.0), *[constant(0, words())] * DIGITS])
    few_moved = lane_sum(moved).compare("le", length * MOVED)
    splits = few_moved & largest.compare("le", LARGEST_X)
    return select(splits, scale, scalar(0.0)), [lane_sum(total) for total in totals]


def _power_of_two(largest: Val) -> tuple[Val, Val]:
    """The scale with which `largest` becomes an integer of at most LARGEST, and its inverse."""
    with_margin = largest * ((1 << TOP + 1) / LARGEST)
    # The exponent; as low as lets scale and inverse be normal numbers.
    exponent = bits_of(with_margin) & EXPONENT_BITS
    exponent = maximum(exponent, constant((TOP + 1) << MANTISSA, exponent.type))
    scale = exponent - (TOP << MANTISSA)
    return float_of(scale), float_of(constant(2 * BIAS << MANTISSA, scale.type) - scale)


def _digits(integers: Val) -> list[Val]:
    """The balanced digits of integers (i32 lanes) as i8 lanes, the most significant first."""
    digits = (integers + LOWEST) ^ LOWEST
    return [truncate(digits >> 8 * place, i8()) for place in reversed(range(DIGITS))]

"""
Functions of rows on DPUs, in integers: softmax, and the norms before their weight and bias.

The host rounds numbers to words, DPUs compute these integers, the host scales. DPUs have no
quotient and no root of a number: they shift its highest bit to the top, and look its mantissa up.
ONE stands for 1 in tables. What `__call__` says is what kernels (passes/pim_row_kernel.py) and
emulators give, bit for bit; rows may be wider than those of a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, floor, log, log2, sqrt

import numpy as np
from numpy.typing import NDArray

from .piecewise import Cells
from .piecewise import Floats as Reals

Floats = NDArray[np.float32]
Integers = NDArray[np.integer]
ONE = 127 << 8
"""The largest number whose low and high byte are signed ones, for products by pim.mul8."""
INDEX_BITS = 15
"""Bits of a mantissa that are looked up."""
MOST_COLUMNS = 1 << 16


def reciprocal_table() -> Cells:
    """ONE / (1 + u) for u in [0, 1): of a mantissa."""
    return Cells.of(lambda u: 1 / (1 + u), 0.0, 1.0, 256, unit=1 / ONE)


def root_table() -> Cells:
    """ONE / √m, m in [1, 4): mantissas of even exponents below the middle, of odd ones above."""

    return Cells.of(_root, 0.0, 1.0, 256, unit=1 / ONE)


def _root(u: Reals) -> Reals:
    return 1 / np.sqrt(np.where(u < 0.5, 1 + 2 * u, 4 * u))


def power_table() -> Cells:
    """ONE · 2^-f for f in [0, 1)."""
    return Cells.of(lambda f: 2.0**-f, 0.0, 1.0, 128, unit=1 / ONE)


@dataclass(frozen=True)
class Softmax:
    """
    Rows of exp(x - max) over their sum.

        c = x in steps of ln 2 / 2^14      d = max c - c
        e = (power[d mod 2^14] << guard) >> (d >> 14)      S = Σ e, below 2^32
        p = e · reciprocal[mantissa of S] >> exponent, rounded, in units of 1 / ONE

    Scores of -inf, code 0, give 0; finite ones are clipped to ±90,000. A row of -inf alone gives
    zeros if `empty_rows`, as qcc.attention has it, else NaN, as torch has it; a row with NaN or
    +inf gives NaN.
    """

    columns: int
    empty_rows: bool
    power: Cells = field(compare=False)
    reciprocal: Cells = field(compare=False)

    kinds = ("ui32", "ui16")
    method = "rows"
    BITS = 14
    STEP = log(2) / (1 << BITS)
    ZERO = 1 << 31
    LEAST = 1 << 20
    """Of a finite score: further from 0, which -inf is, than anything that is not 0."""

    @staticmethod
    def of(columns: int, *, empty_rows: bool) -> Softmax:
        return Softmax(columns, empty_rows, power_table(), reciprocal_table())

    @property
    def tables(self) -> tuple[Cells, ...]:
        return self.power, self.reciprocal

    @property
    def widths(self) -> tuple[int, int]:
        return whole(self.columns, 2), whole(self.columns, 4)

    @property
    def guard(self) -> int:
        """Bits behind ONE in powers, as many as leave the sum below 2^32."""
        return 17 - bits_of(self.columns)

    @property
    def error(self) -> float:
        """
        The largest difference of a weight to that of fp32, in rows of no more than `columns`.

        Powers are off by a factor and by what is shifted out; a weight by twice that factor, by
        that of the reciprocal, by a unit cut off and a half rounded away.
        """
        factor = 2 * self.power.errors(lambda f: 2.0**-f)[1] + self.STEP
        lost = 2.0**-self.guard / ONE
        relative = 2 * factor + (self.columns + 1) * lost
        inverse = 2 * (self.reciprocal.errors(lambda u: 1 / (1 + u))[1] + 2.0**-INDEX_BITS)
        return relative / (1 - relative) + inverse + 1.5 / ONE

    def rows_of(self, x: Floats) -> Floats:
        return x.reshape(-1, x.shape[-1])

    def encode(self, x: Floats) -> NDArray[np.uint32]:
        rows, count = x.shape
        codes = np.zeros((rows, max(self.widths[0], count)), np.uint32)
        near = np.clip(np.nan_to_num(x.astype(np.float64), nan=0.0), -1e6, 1e6)
        steps = np.rint(near / self.STEP) + self.ZERO
        codes[:, :count] = np.clip(steps, self.LEAST, 2.0**32 - 1)
        codes[:, :count][np.isneginf(x)] = 0
        return codes

    def __call__(self, codes: NDArray[np.uint32]) -> Integers:
        c = codes.astype(np.int64)
        d = c.max(axis=1, keepdims=True) - c
        powers = self.power(d & ((1 << self.BITS) - 1)).astype(np.int64) << self.guard
        powers >>= np.minimum(d >> self.BITS, 31)
        total = powers.sum(axis=1, keepdims=True)
        exponent = highest_bit(total)
        factor = self.reciprocal(mantissa(total, exponent, INDEX_BITS)).astype(np.int64)
        found = rounded((powers >> self.guard) * factor, exponent - self.guard)
        result = np.zeros((len(codes), max(self.widths[1], codes.shape[1])), np.uint16)
        result[:, : codes.shape[1]] = found
        return result

    def decode(self, found: Integers, x: Floats) -> Floats:
        highest = x.max(axis=1, keepdims=True, initial=-np.inf)
        empty = np.float32(0 if self.empty_rows else np.nan)
        result = found[:, : x.shape[1]] * np.float32(1 / ONE)
        result = np.where(np.isneginf(highest), empty, result)
        return np.where(highest < np.inf, result, np.float32(np.nan)).astype(np.float32)


@dataclass(frozen=True)
class Norm:
    """
    Rows of (x - mean) / √(mean of squares + epsilon), or of x / √… where not `centred`.

        c = x / 2^e, an integer of 24 bits, e of each row        d = c - mean c, or c
        v = d >> sh, rounded, at most 2^14                       T = Σ v² + columns · epsilon
        z = v · root[mantissa of T] >> exponent, rounded, in units of √columns / ONE

    The host adds 2^23 to c, and e to the row, as the word behind the last: epsilon is in units of
    v², so it is shifted by the row. A row with NaN or an infinity gives NaN.
    """

    columns: int
    epsilon: float
    centred: bool
    root: Cells = field(compare=False)

    kinds = ("ui32", "si16")
    method = "rows"
    CODE_BITS = 23
    VALUE_BITS = 14
    LEAST_ROW = 24
    """What the word of a row adds to, so that it is positive."""

    @staticmethod
    def of(columns: int, epsilon: float, *, centred: bool) -> Norm:
        return Norm(columns, epsilon, centred, root_table())

    @property
    def tables(self) -> tuple[Cells, ...]:
        return (self.root,)

    @property
    def widths(self) -> tuple[int, int]:
        return whole(self.columns + 1, 2), whole(self.columns, 4)

    @property
    def level(self) -> int:
        """The exponent of a unit of v where √epsilon is 2^13 to 2^14 of them."""
        return floor(log2(sqrt(self.epsilon))) - 13 if self.epsilon > 0 else -60

    @property
    def added(self) -> int:
        """columns · epsilon at `level`, in 2^16 units of v²."""
        return round(self.columns * self.epsilon / 4.0**self.level / 2**16)

    @property
    def dropped(self) -> int:
        """Low bits of T without which it fits a word."""
        return max(0, bits_of(self.columns) - 3)

    @cached_property
    def error(self) -> float:
        """
        The largest difference of a result to fp32's, over the row's largest or 1.

        v is off by one, or by 2 where √T is least, and the sum of squares by as much for each
        number, beside a largest of 2^13 (docs/pim-kernels.md). Rows that are less than 2^-8 of
        their mean wide are off by more, as they are in fp32.
        """
        off, largest = 1.0, 2.0 ** (self.VALUE_BITS - 1)
        table = 2 * self.root.errors(_root)[1]
        lost = 2.0 ** (self.dropped - 2 * self.VALUE_BITS + 2) + 2.0 ** (2 - INDEX_BITS)
        sums = off * (1 + sqrt(self.columns)) / (2 * largest)
        return off / largest + sums + table + lost + 0.5 * sqrt(self.columns) / ONE

    def rows_of(self, x: Floats) -> Floats:
        return x.reshape(-1, self.columns)

    def encode(self, x: Floats) -> NDArray[np.uint32]:
        rows, count = x.shape
        wide = np.where(np.isfinite(x), x, 0).astype(np.float64)
        exponent = np.frexp(np.abs(wide).max(axis=1, keepdims=True, initial=0.0))[1]
        exponent = np.maximum(exponent - self.CODE_BITS, self.level - self.LEAST_ROW)
        codes = np.zeros((rows, self.widths[0]), np.uint32)
        codes[:, :count] = np.rint(np.ldexp(wide, -exponent)) + (1 << self.CODE_BITS)
        codes[:, count : count + 1] = exponent - self.level + self.LEAST_ROW
        return codes

    def __call__(self, codes: NDArray[np.uint32]) -> Integers:
        n, given = self.columns, codes.astype(np.int64)
        c, row = given[:, :n], given[:, n : n + 1]
        d = c - (1 << self.CODE_BITS)
        shift = np.full_like(row, self.CODE_BITS - self.VALUE_BITS)
        if self.centred:
            d = c - (c.sum(axis=1, keepdims=True) + n // 2) // n
            wide = np.bitwise_or.reduce(d ^ (d >> 63), axis=1, keepdims=True)
            shift = np.maximum(highest_bit(np.maximum(wide, 1)) + 1 - self.VALUE_BITS, 0)
        place = np.maximum(shift + row, self.LEAST_ROW)
        v = rounded(d, place - row)
        total = (v * v).sum(axis=1, keepdims=True)
        total += (self.added >> np.minimum(2 * (place - self.LEAST_ROW), 31)) << 16
        top = np.maximum(total >> self.dropped, 1)
        bit = highest_bit(top)
        exponent = bit + self.dropped
        index = mantissa(top, bit, INDEX_BITS - 1) | ((exponent & 1) << (INDEX_BITS - 1))
        found = rounded(v * self.root(index).astype(np.int64), exponent >> 1)
        result = np.zeros((len(codes), self.widths[1]), np.int16)
        result[:, :n] = found
        return result

    def decode(self, found: Integers, x: Floats) -> Floats:
        unit = np.float32(sqrt(self.columns) / ONE)
        result = found[:, : x.shape[1]].astype(np.float32) * unit
        finite = np.isfinite(x).all(axis=1, keepdims=True)
        return np.where(finite, result, np.float32(np.nan))


def whole(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def bits_of(count: int) -> int:
    """
    The least b with count ≤ 2^b.

    >>> bits_of(1), bits_of(2), bits_of(3), bits_of(4096)
    (0, 1, 2, 12)
    """
    return ceil(log2(count))


def highest_bit(positive: Integers) -> NDArray[np.int64]:
    """Exact below 2^53."""
    return np.frexp(positive.astype(np.float64))[1].astype(np.int64) - 1


def mantissa(value: Integers, bit: Integers, bits: int) -> NDArray[np.int64]:
    """The `bits` bits behind the highest, which is `bit`."""
    return ((value.astype(np.int64) << bits) >> bit) & ((1 << bits) - 1)


def rounded(value: Integers, shift: Integers) -> NDArray[np.int64]:
    """value / 2^shift to the nearest, halves up."""
    one = np.int64(1)
    return (value + ((one << shift) >> 1)) >> shift

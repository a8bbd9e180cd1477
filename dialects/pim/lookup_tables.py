"""
Lookup tables of p products: packed, canonical and reordering (spec pim.md §1.2 to §1.4).

    r = Σ w_i · 2^(bw·i)      packed[c][r] = Σ W(w_i) · A(a_i)
    canonical = the columns of sorted activation codes;  reorder[π][r] = code of (w_π(0), …)

Tables are column after column, so that a slice, all that a group of activations needs, is one
piece of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import factorial, gcd, isfinite, lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedError, UsageError
from ..formats import Format
from ..formats.definition import Uniform
from .combinatorics import (
    MOST_PERMUTED,
    column_count,
    permutation_count,
    sorted_tuples,
    stable_permutations,
)

WIDTHS = ((8, "si8"), (16, "si16"), (32, "si32"))
DTYPES: dict[str, Any] = {
    "si8": np.int8, "ui8": np.uint8, "si16": np.int16, "ui16": np.uint16, "si32": np.int32,
    "ui32": np.uint32,
}  # fmt: skip
LONGEST_CODE = 16
KEPT_TABLES = 4
"""Of each kind: layers of one precision have the same, of up to 32 MiB."""


@dataclass(frozen=True)
class CodeBook:
    """The integer each code stands for; `scale` of them make the format's value of one."""

    values: tuple[int, ...]
    scale: int = 1

    @property
    def bits(self) -> int:
        return (len(self.values) - 1).bit_length()

    @staticmethod
    def of(fmt: Format) -> CodeBook:
        """
        The codes of a format as integers.

        >>> from qcc.dialects.formats import format
        >>> CodeBook.of(format("dint4", symmetric=True)).scale
        2
        >>> CodeBook.of(format("sawb2"))
        CodeBook(values=(-3, -1, 1, 3), scale=3)
        """
        if fmt.bits > 8:
            raise UnsupportedError(
                "pim-format", f"{fmt.name} has codes of {fmt.bits} bits",
                next_step="DPUs look up, or multiply, codes of at most 8",
            )  # fmt: skip
        units = _fractions(fmt)
        scale = lcm(*(below for _, below in units))
        values = tuple(above * (scale // below) for above, below in units)
        if 127 < max(values) < 256 <= 256 + min(values):
            raise UnsupportedError(
                "pim-format", f"{fmt.name}: values reach {max(values)}; DPUs multiply -128 to 127",
                next_step="use a format of fewer bits, or one with a sign",
            )  # fmt: skip
        if min(values) < -128 or max(values) > 127:
            raise UnsupportedError(
                "pim-format", f"{fmt.name}: values are no small integers times one factor",
                next_step="use an integer format, or a table of small integers",
            )  # fmt: skip
        common = gcd(*values, scale)
        return CodeBook(tuple(value // common for value in values), scale // common)


def _fractions(fmt: Format) -> list[tuple[int, int]]:
    """Numerator and denominator of each code's value; no small ones where it is not finite."""
    element = fmt.element
    if isinstance(element, Uniform):  # 2 q / n - 1, which floats round
        return [(2 * q - element.steps, element.steps) for q in range(1 << element.bits)]
    values = map(float, fmt.element_values())
    return [each.as_integer_ratio() if isfinite(each) else (1 << 31, 1) for each in values]


@dataclass(frozen=True)
class TablePair:
    """Code books of weights and activations, p of each a group; sizes, and the tables."""

    weights: tuple[int, ...]
    activations: tuple[int, ...]
    p: int

    def __post_init__(self) -> None:
        for what, book in (("weights", self.weights), ("activations", self.activations)):
            if len(book) < 2 or len(book) & (len(book) - 1):
                raise UsageError("pim-code-book", f"{len(book)} {what} are no power of two")
        if self.p < 1 or self.weight_bits * self.p > LONGEST_CODE:
            raise UsageError(
                "pim-group-size",
                f"groups of {self.p} codes of {self.weight_bits} bits exceed {LONGEST_CODE}",
            )

    @cached_property
    def weight_bits(self) -> int:
        return (len(self.weights) - 1).bit_length()

    @cached_property
    def activation_bits(self) -> int:
        return (len(self.activations) - 1).bit_length()

    @cached_property
    def rows(self) -> int:
        """Packed weight codes, the entries of a slice."""
        return 1 << (self.weight_bits * self.p)

    @cached_property
    def columns(self) -> int:
        return column_count(len(self.activations), self.p)

    @cached_property
    def permutations(self) -> int:
        """Columns of the reordering table: permutations that occur, ties being sorted stably."""
        return permutation_count(len(self.activations), self.p)

    @cached_property
    def extremes(self) -> tuple[int, int]:
        """Least and greatest entry."""
        products = [w * a for w in self.weights for a in self.activations]
        return self.p * min(products), self.p * max(products)

    @cached_property
    def entry(self) -> str:
        """The smallest element that holds every entry."""
        least, most = self.extremes
        return next(
            name for bits, name in WIDTHS if -(1 << (bits - 1)) <= least and most < 1 << (bits - 1)
        )

    @cached_property
    def code(self) -> str:
        """The element of packed weight codes, and of the reordering table."""
        return "ui8" if self.rows <= 256 else "ui16"

    def shape(self, kind: str) -> tuple[int, int, str]:
        """Columns, rows and element of a table."""
        if kind == "packed":
            return 1 << (self.activation_bits * self.p), self.rows, self.entry
        if kind == "canonical":
            return self.columns, self.rows, self.entry
        return self.permutations, self.rows, self.code

    def bytes(self, kind: str) -> int:
        """
        Bytes of a table; "full reorder" is that of all p! permutations, as published.

        >>> PM1, A3 = (-1, 1), tuple(range(-4, 4))
        >>> pair = TablePair(PM1, A3, 7)
        >>> pair.bytes("packed"), pair.bytes("canonical"), pair.bytes("full reorder")
        (268435456, 439296, 645120)
        """
        if kind == "full reorder":
            return factorial(self.p) * self.rows * DTYPES[self.code]().itemsize
        columns, rows, element = self.shape(kind)
        return columns * rows * DTYPES[element]().itemsize

    @property
    def needs_reorder(self) -> bool:
        """Groups of one code are always sorted."""
        return self.p > 1

    @property
    def canonical_bytes(self) -> int:
        """Both tables of the canonical form."""
        return self.bytes("canonical") + (self.bytes("reorder") if self.needs_reorder else 0)

    @lru_cache(KEPT_TABLES)  # noqa: B019
    def packed(self) -> NDArray[Any]:
        """[columns, rows] for all tuples of activation codes, the first code lowest."""
        return self._sums(digits(np.arange(self.shape("packed")[0]), self.activation_bits, self.p))

    @lru_cache(KEPT_TABLES)  # noqa: B019
    def canonical(self) -> NDArray[Any]:
        return self._sums(sorted_tuples(len(self.activations), self.p))

    @lru_cache(KEPT_TABLES)  # noqa: B019
    def reorder(self) -> NDArray[Any]:
        """[permutations, rows]: packed weight codes in the order of the sorted activations."""
        if self.p > MOST_PERMUTED:
            raise UnsupportedError("pim-group-size", f"no reordering of {self.p} codes")
        codes = digits(np.arange(self.rows), self.weight_bits, self.p)
        orders = stable_permutations(len(self.activations), self.p)
        kind = DTYPES[self.code]
        table = np.zeros((len(orders), self.rows), kind)
        for position in range(self.p):
            moved = codes[:, orders[:, position]].T << (self.weight_bits * position)
            np.bitwise_or(table, moved.astype(kind), out=table)
        table.flags.writeable = False
        return table

    def _sums(self, tuples: NDArray[np.int64]) -> NDArray[Any]:
        left = np.array(self.weights, np.int64)
        left = left[digits(np.arange(self.rows), self.weight_bits, self.p)]
        right = np.array(self.activations, np.int64)[tuples]
        table = np.ascontiguousarray((right @ left.T).astype(DTYPES[self.entry]))
        table.flags.writeable = False
        return table


def digits(codes: NDArray[np.integer], bits: int, p: int) -> NDArray[np.int64]:
    """The p codes [..., p] of packed ones, the lowest first."""
    shifts = bits * np.arange(p)
    return (np.asarray(codes, np.int64)[..., None] >> shifts) & ((1 << bits) - 1)


def packed_codes(codes: NDArray[np.integer], bits: int, p: int, pad: int) -> NDArray[np.int64]:
    """
    Packed codes [rows, groups] of [rows, K]; `pad` fills the last group.

    >>> packed_codes(np.array([[1, 0, 1, 1]]), 1, 3, 0).tolist()
    [[5, 1]]
    """
    return (grouped(codes, p, pad) << (bits * np.arange(p))).sum(axis=-1)


def grouped(codes: NDArray[np.integer], p: int, pad: int) -> NDArray[np.int64]:
    """Codes [rows, groups, p] of [rows, K], the last group filled with `pad`."""
    rows, k = codes.shape
    whole = np.full((rows, -(-k // p) * p), pad, np.int64)
    whole[:, :k] = codes
    return whole.reshape(rows, -1, p)

"""
Closed forms of element value tables, each proven by comparing the whole table.

A format's elements are a table code → value. When the table is affine in the code, or that of a
sign-exponent-mantissa minifloat, a few integer operations replace the lookup.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True, slots=True)
class Affine:
    """value = ((code ^ flip) - flip) * step; flip is 0 or the sign bit of two's complement."""

    flip: int
    step: float


@dataclass(frozen=True, slots=True)
class Minifloat:
    """
    Sign, `exponent` bits with `bias`, `mantissa` bits, subnormals, `bits` in all.

    A constant power-of-two scale of the whole table is part of the bias.
    """

    bits: int
    exponent: int
    mantissa: int
    bias: int

    @property
    def lowering(self) -> int:
        """Its fields in fp32's places make up the value divided by 2 to this power."""
        return 127 - self.bias

    def values(self) -> np.ndarray:
        """fp32 value of every code as the closed form computes it."""
        codes = np.arange(1 << self.bits, dtype=np.uint32)
        sign_bit = self.bits - 1
        magnitude = (codes & ((1 << sign_bit) - 1)) << np.uint32(23 - self.mantissa)
        with np.errstate(invalid="ignore"):  # codes of NaN, which no caller looks at
            value = magnitude.view(np.float32) * np.float32(2.0**self.lowering)
        return np.where(codes >> sign_bit, -value, value)


def closed_form(values: np.ndarray) -> Affine | Minifloat | None:
    """The closed form that equals every finite entry of `values`, if there is one."""
    return _closed_form(np.asarray(values, np.float32).tobytes())


@lru_cache
def _closed_form(table: bytes) -> Affine | Minifloat | None:
    values = np.frombuffer(table, np.float32)
    bits = len(values).bit_length() - 1
    if len(values) != 1 << bits:
        return None
    for candidate in _affine_candidates(values, bits):
        codes = np.arange(len(values))
        if np.array_equal(((codes ^ candidate.flip) - candidate.flip) * candidate.step, values):
            return candidate
    fraction, exponent_above = np.frexp(values[1])
    if fraction != 0.5:
        return None
    smallest = int(exponent_above) - 1
    finite = np.isfinite(values)
    for exponent in range(1, bits - 1):
        mantissa = bits - 1 - exponent
        candidate = Minifloat(bits, exponent, mantissa, 1 - mantissa - smallest)
        if 1 <= candidate.bias <= 127 and np.array_equal(
            candidate.values()[finite], values[finite]
        ):
            return candidate
    return None


def _affine_candidates(values: np.ndarray, bits: int) -> list[Affine]:
    step = float(values[1])
    return [Affine(0, step), Affine(1 << (bits - 1), step)]

"""
Sums of float32 values without any rounding.

A finite float32 is an integer of at most 24 bits times a power of two. Values are grouped by that
power, each group is summed in float64, which holds such sums of up to 2**29 values exactly, and
the groups are put together as integers.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

LONGEST = 1 << 28
_HALF = 1 << 12
_SMALLEST = 149  # every finite float32 is an integer times 2**-149


def exact_sum(values: NDArray[np.float32]) -> Fraction:
    """
    The sum of finite float32[n], n at most 2**28.

    >>> exact_sum(np.float32([1e30, 1.0, -1e30]))
    Fraction(1, 1)
    """
    mantissas, powers = _split(values)
    return Fraction(_weighted(mantissas, powers, 1), 1 << _SMALLEST)


def exact_sum_of_squares(values: NDArray[np.float32]) -> Fraction:
    """
    The sum of squares of finite float32[n], n at most 2**28.

    A mantissa is cut in two halves of 12 bits, so that each product stays within 24 bits.
    """
    mantissas, powers = _split(values)
    magnitudes = np.abs(mantissas)
    high = np.floor(magnitudes / _HALF)
    low = magnitudes - high * _HALF
    products = ((high * high, _HALF * _HALF), (high * low, 2 * _HALF), (low * low, 1))
    total = sum(_weighted(part, powers, 2) * factor for part, factor in products)
    return Fraction(total, 1 << (2 * _SMALLEST))


def _split(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Integers m below 2**24 in magnitude and p >= 0 with value = m * 2**(p - 149)."""
    bits = values.view(np.uint32)
    exponent = (bits >> 23) & 0xFF
    mantissas = (bits & 0x7FFFFF).astype(np.float64)
    mantissas[exponent > 0] += 1 << 23
    np.negative(mantissas, out=mantissas, where=bits >> 31 != 0)
    return mantissas, np.maximum(exponent, 1).astype(np.int64) - 1


def _weighted(parts: NDArray[np.float64], powers: NDArray[np.int64], degree: int) -> int:
    """The sum of parts * 2**(degree * powers), as an integer."""
    sums = np.bincount(powers, weights=parts)
    return sum(int(group) << (degree * power) for power, group in enumerate(sums) if group)

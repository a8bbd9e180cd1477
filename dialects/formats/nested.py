"""
NestedFP: the two byte planes of a half whose top exponent bit is clear (formats.md 3.1).

The upper plane is the weight times 256 as a rounded E4M3 number; the lower plane is the half's
own low byte. The mantissa bit that both hold tells on merging whether the upper was rounded up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Halves = NDArray[np.uint16]
Plane = NDArray[np.uint8]
PLANES: tuple[str, str] = ("upper", "lower")
LARGEST_BODY = 0x7E  # rounding up from here would make E4M3's NaN


def split_halves(halves: Halves) -> tuple[Plane, Plane]:
    """
    Upper and lower plane of half-precision bit patterns.

    >>> upper, lower = split_halves(np.array([1.0, -0.3], np.float16).view(np.uint16))
    >>> [hex(byte) for byte in upper], [hex(byte) for byte in lower]
    (['0x78', '0xea'], ['0x0', '0xcd'])
    """
    body = (halves >> 7) & 0x7F
    dropped = halves & 0x7F
    round_up = (dropped > 64) | ((dropped == 64) & ((body & 1) == 1))
    round_up &= body != LARGEST_BODY
    upper = ((halves >> 15) << 7) + body + round_up
    return upper.astype(np.uint8), halves.astype(np.uint8)


def merge_planes(upper: Plane, lower: Plane) -> Halves:
    """The half-precision bit patterns that `split_halves` was given."""
    wide = upper.astype(np.uint16)
    exponent_and_two_bits = ((wide - (lower >> 7)) >> 1) & 0x3F
    merged = (((wide & 0x80) | exponent_and_two_bits) << 8) | lower
    return merged.astype(np.uint16, copy=False)


def rounded_to_half(value: float) -> float:
    """The value as IEEE half precision; infinity where it is beyond."""
    with np.errstate(over="ignore"):
        return float(np.float32(value).astype(np.float16))

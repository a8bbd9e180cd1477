"""
Rounding float32 to minifloats, and what each minifloat code means.

Three exact ways, chosen by shape of the format, all without a logarithm:

* up to 4 bits: count the rounding boundaries below the magnitude. A boundary belongs to one side
  or the other according to the rounding, so each is one float32 comparison;
* an 8-bit exponent (bf16, fp32): the format is a prefix of float32, round the bit pattern;
* otherwise add 2**(e + 23 - m), e the exponent of the result: float32 then rounds to even at
  exactly the last place of the format, subnormals included.

Rounding half away from zero is rounding to even after setting the last bit of the float32:
no tie has that bit, and no other value reaches a tie by it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .definition import Minifloat
from .scratch import Scratch

Floats = NDArray[np.float32]
FLOAT32_MANTISSA = 23
FLOAT32_BIAS = 127


@lru_cache(maxsize=64)
def minifloat_values(element: Minifloat) -> Floats:
    """float32[2**bits], the value of each code; infinities and NaNs where `specials` has them."""
    magnitudes = np.arange(1 << (element.bits - 1), dtype=np.int64)
    exponents = magnitudes >> element.mantissa
    fractions = magnitudes & ((1 << element.mantissa) - 1)
    significands = fractions + (np.minimum(exponents, 1) << element.mantissa)
    last_place = np.maximum(exponents, 1) - element.bias - element.mantissa
    with np.errstate(over="ignore"):  # the codes of a last exponent kept for infinity and NaN
        values = np.ldexp(significands.astype(np.float64), last_place).astype(np.float32)
    if element.specials == "ieee":
        values[element.max_code + 1 :] = np.nan
        values[element.max_code + 1] = np.inf
    elif element.specials == "nan":
        values[-1] = np.nan
    both = np.concatenate([values, -values])
    both.flags.writeable = False
    return both


def encode_magnitudes(
    element: Minifloat, magnitudes: Floats, codes: NDArray[np.unsignedinteger], scratch: Scratch
) -> None:
    """
    Write the codes, sign bit clear, of non-negative float32 `magnitudes`, which are overwritten.

    `codes` has the shape of `magnitudes` and an unsigned type that holds the format.
    """
    if element.bits <= 4:
        _count_boundaries(element, magnitudes, codes, scratch)
    elif element.exponent == 8:
        _round_bit_patterns(element, magnitudes, codes)
    else:
        _round_by_addition(element, magnitudes, codes, scratch)


@lru_cache(maxsize=64)
def rounding_boundaries(element: Minifloat) -> Floats:
    """Ascending float32: code i + 1 is reached at magnitudes >= boundaries[i]."""
    values = minifloat_values(element)[: element.max_code + 1]
    if element.overflow == "infinity":
        values = np.append(values, np.float32(2.0 ** (element.max_exponent + 1)))
    if element.rounding == "floor":
        return values[1:]
    middles = (values[1:] + values[:-1]) / np.float32(2)
    if element.rounding == "nearest":
        return middles
    above = np.nextafter(middles, np.float32(np.inf))
    return np.where(np.arange(len(middles)) % 2 == 0, above, middles)


def _count_boundaries(
    element: Minifloat, magnitudes: Floats, codes: NDArray[np.unsignedinteger], scratch: Scratch
) -> None:
    reached = scratch.array("reached", magnitudes.shape, np.bool_)
    counts = reached.view(np.uint8)
    first, *others = rounding_boundaries(element)
    np.greater_equal(magnitudes, first, out=reached)
    np.copyto(codes, counts)
    for boundary in others:
        np.greater_equal(magnitudes, boundary, out=reached)
        np.add(codes, counts, out=codes)


def _round_bit_patterns(
    element: Minifloat, magnitudes: Floats, codes: NDArray[np.unsignedinteger]
) -> None:
    bits = magnitudes.view(np.uint32)
    shift = FLOAT32_MANTISSA - element.mantissa
    if shift:
        if element.rounding == "even":
            bits += ((bits >> np.uint32(shift)) & np.uint32(1)) + np.uint32((1 << (shift - 1)) - 1)
        elif element.rounding == "nearest":
            bits += np.uint32(1 << (shift - 1))
        bits >>= np.uint32(shift)
    _saturate(element, bits)
    np.copyto(codes, bits, casting="same_kind" if codes.dtype == np.uint32 else "unsafe")


def _round_by_addition(
    element: Minifloat, magnitudes: Floats, codes: NDArray[np.unsignedinteger], scratch: Scratch
) -> None:
    shape = magnitudes.shape
    bits = magnitudes.view(np.uint32)
    spare = FLOAT32_MANTISSA - element.mantissa
    beyond = np.float32(2.0 ** (element.max_exponent + 1))
    np.minimum(magnitudes, scratch.filled("beyond", shape, beyond), out=magnitudes)
    if element.rounding == "nearest":
        np.bitwise_or(bits, np.uint32(1), out=bits)
    lowest = np.uint32((element.min_exponent + FLOAT32_BIAS) << FLOAT32_MANTISSA)
    power = scratch.array("power", shape, np.uint32)
    np.bitwise_and(bits, np.uint32(0x7F800000), out=power)
    np.maximum(power, scratch.filled("lowest", shape, lowest), out=power)
    np.add(power, np.uint32(spare << FLOAT32_MANTISSA), out=power)
    total = scratch.array("total", shape, np.float32)
    np.add(magnitudes, power.view(np.float32), out=total)
    if element.rounding == "floor":
        rounded = total - power.view(np.float32)
        total.view(np.uint32)[...] -= rounded > magnitudes
    np.subtract(total.view(np.uint32), power, out=bits)
    np.right_shift(power, np.uint32(spare), out=power)
    np.add(bits, power, out=bits)
    base = (element.min_exponent + FLOAT32_BIAS + spare) << element.mantissa
    np.subtract(bits, np.uint32(base), out=bits)
    if codes.dtype == np.uint8:
        np.copyto(codes, bits, casting="unsafe")
        _saturate(element, codes)
    else:
        _saturate(element, bits)
        np.copyto(codes, bits, casting="unsafe")


def _saturate(element: Minifloat, codes: NDArray[np.unsignedinteger]) -> None:
    """Pull codes past the largest finite one back to it, or to the infinity just above it."""
    last = element.max_code + (element.overflow == "infinity")
    np.minimum(codes, codes.dtype.type(last), out=codes)

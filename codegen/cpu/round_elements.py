"""
Rounding scaled inputs to the values of an element, in registers.

These are the encoders of dialects/formats with the decoder behind them: same operations in the
same order, but a value is never turned into its code. Everything here takes a scalar or a vector.
"""

from __future__ import annotations

import numpy as np

from ...dialects.formats.definition import (
    Element,
    HalfStepInteger,
    Integer,
    Minifloat,
    Nested,
    Table,
    Uniform,
)
from ...dialects.formats.elements import (
    HALF,
    _table_ranks,  # pyright: ignore[reportPrivateUsage]
    element_values,
)
from .emit import (
    Val,
    absolute,
    constant,
    f32,
    i32,
    maximum,
    minimum,
    reinterpret,
    round_even,
    round_to_zero,
    select,
)

MANTISSA = 23
BIAS = 127
EXPONENT_BITS = 0x7F800000
SIGN_BIT = -(2**31)


def larger(a: Val, b: Val | float) -> Val:
    """The larger float, b where a is NaN: one instruction, which IEEE maxNum is not."""
    other = b if isinstance(b, Val) else constant(b, a.type)
    return select(a.compare("gt", other), a, other)


def smaller(a: Val, b: Val | float) -> Val:
    other = b if isinstance(b, Val) else constant(b, a.type)
    return select(a.compare("lt", other), a, other)


def clamp(a: Val, low: float, high: float) -> Val:
    return smaller(larger(a, low), high)


def bits_of(a: Val) -> Val:
    return reinterpret(a, i32())


def float_of(bits: Val) -> Val:
    return reinterpret(bits, f32())


def sign_of(a: Val) -> Val:
    """The sign bit alone."""
    return bits_of(a) & SIGN_BIT


def positive_zero(a: Val) -> Val:
    """`a` with -0 turned into +0."""
    return a + 0.0


def keep_non_finite(x: Val, rounded: Val) -> Val:
    """`rounded`, but NaN where `x` is infinite or NaN: no format may hide those."""
    finite = (bits_of(x) & ~SIGN_BIT).compare("lt", EXPONENT_BITS)
    return select(finite, rounded, constant(float("nan"), x.type))


def round_signed(element: Minifloat | Nested, x: Val, magnitude: Val) -> Val:
    """The value of a minifloat nearest to `magnitude`, with the sign of `x`."""
    minifloat = HALF if isinstance(element, Nested) else element
    rounded = float_of(bits_of(round_magnitude(minifloat, magnitude)) | sign_of(x))
    return rounded if minifloat.signed_zero else positive_zero(rounded)


def round_magnitude(element: Minifloat, magnitude: Val) -> Val:
    """The value of `element` that a non-negative float rounds to."""
    if element.exponent == 8:
        return _round_bit_pattern(element, magnitude)
    return _saturate(element, _round_by_addition(element, magnitude))


def _round_bit_pattern(element: Minifloat, magnitude: Val) -> Val:
    """bf16 and fp32 are prefixes of fp32."""
    bits = bits_of(magnitude)
    shift = MANTISSA - element.mantissa
    if shift and element.rounding == "even":
        bits = bits + ((bits >> shift) & 1) + ((1 << (shift - 1)) - 1)
    elif shift and element.rounding == "nearest":
        bits = bits + (1 << (shift - 1))
    last = element.max_code + (element.overflow == "infinity")
    return float_of(minimum((bits >> shift) << shift, last << shift))


def _round_by_addition(element: Minifloat, magnitude: Val) -> Val:
    """
    Add 2^(e + 23 - m), e the exponent of the result, and take it away again.

    fp32 rounds the sum to even at the last place of the element, subnormals included. Half away
    from zero is the same after setting the last bit of the input: no tie has it.
    """
    spare = MANTISSA - element.mantissa
    bounded = smaller(magnitude, 2.0 ** (element.max_exponent + 1))
    if element.rounding == "nearest":
        bounded = float_of(bits_of(bounded) | 1)
    lowest = constant((element.min_exponent + BIAS) << MANTISSA, bits_of(bounded).type)
    power_bits = maximum(bits_of(bounded) & EXPONENT_BITS, lowest) + (spare << MANTISSA)
    power = float_of(power_bits)
    rounded = (bounded + power) - power
    if element.rounding != "floor":
        return rounded
    last_place = float_of(power_bits - (MANTISSA << MANTISSA))
    return select(rounded.compare("gt", bounded), rounded - last_place, rounded)


def _saturate(element: Minifloat, rounded: Val) -> Val:
    if element.overflow == "saturate":
        return smaller(rounded, element.largest)
    infinity = constant(float("inf"), rounded.type)
    return select(rounded.compare("gt", element.largest), infinity, rounded)


def round_linear(element: Element, scaled: Val, zero_point: Val | None) -> Val:
    """
    The value, before the scale and with its zero point taken away, that an input rounds to.

    `element` is any but a minifloat.
    """
    if isinstance(element, Integer):
        return _round_integer(element, scaled, zero_point)
    if isinstance(element, HalfStepInteger):
        return _round_half_step(element, scaled, zero_point)
    if isinstance(element, Uniform):
        return _round_uniform(element, scaled)
    assert isinstance(element, Table)
    return _round_to_table(element, scaled)


def _round_integer(element: Integer, scaled: Val, zero_point: Val | None) -> Val:
    steps = 1 << element.fraction_bits
    if steps > 1:
        scaled = scaled * float(steps)
    if element.rounding == "nearest":
        scaled = float_of(bits_of(scaled) | 1)
    rounded = round_to_zero(scaled) if element.rounding == "floor" else round_even(scaled)
    shifted = rounded + (float(element.offset) if zero_point is None else zero_point)
    code = clamp(shifted, element.low, element.high)
    if zero_point is not None:
        return code - zero_point
    value = code - float(element.offset) if element.offset else code
    return value * (1 / steps) if steps > 1 else value


def _round_half_step(element: HalfStepInteger, scaled: Val, zero_point: Val | None) -> Val:
    magnitude = absolute(scaled)
    outside = magnitude.compare("gt", element.fraction / 2)
    inside = magnitude.compare("lt", (1 + element.fraction) / 2)
    half = float_of(bits_of(constant(element.fraction, scaled.type)) | sign_of(scaled))
    offset = constant(element.offset, scaled.type) if zero_point is None else zero_point
    whole = clamp(round_even(scaled) + offset, 0, element.top) - offset
    return select(outside & inside, half, whole)


def _round_uniform(element: Uniform, scaled: Val) -> Val:
    """formats.md 5.2: q = RNE((clip(w / a, -1, 1) + 1) / 2 * n), value = 2 q / n - 1."""
    levels = round_even((clamp(scaled, -1, 1) + 1.0) / 2.0 * float(element.steps))
    return levels * 2.0 / float(element.steps) - 1.0


def _round_to_table(element: Table, scaled: Val) -> Val:
    boundaries, code_of_rank = _table_ranks(element)
    values = element_values(element)
    ranked = values if code_of_rank is None else values[code_of_rank]
    found = constant(float(ranked[0]), scaled.type)
    for boundary, value in zip(boundaries, ranked[1:], strict=True):
        reached = scaled.compare("ge", float(np.float32(boundary)))
        found = select(reached, constant(float(value), scaled.type), found)
    return found

"""
Rounding scaled inputs to the values of an element, or to their codes, in registers.

These are the encoders of dialects/formats, the same operations in the same order. What rounds is
shared by two endings: `round_…` goes on to the value that decoding would give, `encode_…` to the
code. Everything here takes a scalar or a vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..formats.definition import (
    Element,
    HalfStepInteger,
    Integer,
    Minifloat,
    Nested,
    Table,
    Uniform,
)
from ..formats.elements import HALF, element_values, table_ranks
from .values import (
    Val,
    absolute,
    constant,
    f32,
    float_to_signed,
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
        return _integer_value(element, _integer_code(element, scaled, zero_point), zero_point)
    if isinstance(element, HalfStepInteger):
        special, code, offset = _half_step(element, scaled, zero_point)
        half = float_of(bits_of(constant(element.fraction, scaled.type)) | sign_of(scaled))
        return select(special, half, code - offset)
    if isinstance(element, Uniform):
        return _uniform_code(element, scaled) * 2.0 / float(element.steps) - 1.0
    assert isinstance(element, Table)
    values = [constant(float(value), scaled.type) for value in _ranked_values(element)]
    return _by_rank(element, scaled, values)


def encode_signed(element: Minifloat, x: Val, magnitude: Val) -> Val:
    """The code (i32) of `round_signed`."""
    return minifloat_code(element, round_signed(element, x, magnitude))


def minifloat_code(element: Minifloat, value: Val) -> Val:
    """
    The code (i32) of a float that is a value of `element`.

    A power of two moves its exponent and fraction to those of a float, subnormals included; the
    product is exact. Infinity is the code after the largest.
    """
    shifted = absolute(value)
    if element.bias != BIAS:
        shifted = shifted * 2.0 ** (element.bias - BIAS)
    code = bits_of(shifted) >> (MANTISSA - element.mantissa)
    if element.overflow == "infinity":
        code = minimum(code, element.max_code + 1)
    return code | (sign_of(value) >> (32 - element.bits))


def encode_linear(element: Element, scaled: Val, zero_point: Val | None) -> Val:
    """The code (i32) of what `round_linear` gives, without the bits above the element's."""
    like = bits_of(scaled).type
    if isinstance(element, Integer):
        code = float_to_signed(_integer_code(element, scaled, zero_point), i32())
        return code & ((1 << element.bits) - 1) if element.signed else code
    if isinstance(element, HalfStepInteger):
        special, code, _ = _half_step(element, scaled, zero_point)
        negative = sign_of(scaled).compare("ne", 0)
        half = select(negative, constant(element.minus, like), constant(element.plus, like))
        return select(special, half, float_to_signed(code, i32()))
    if isinstance(element, Uniform):
        return float_to_signed(_uniform_code(element, scaled), i32())
    assert isinstance(element, Table)
    _, code_of_rank = table_ranks(element)
    ranks = range(len(_ranked_values(element))) if code_of_rank is None else code_of_rank
    return _by_rank(element, scaled, [constant(int(code), like) for code in ranks])


def _integer_code(element: Integer, scaled: Val, zero_point: Val | None) -> Val:
    steps = 1 << element.fraction_bits
    if steps > 1:
        scaled = scaled * float(steps)
    if element.rounding == "nearest":
        scaled = float_of(bits_of(scaled) | 1)
    rounded = round_to_zero(scaled) if element.rounding == "floor" else round_even(scaled)
    shifted = rounded + (float(element.offset) if zero_point is None else zero_point)
    return clamp(shifted, element.low, element.high)


def _integer_value(element: Integer, code: Val, zero_point: Val | None) -> Val:
    if zero_point is not None:
        return code - zero_point
    value = code - float(element.offset) if element.offset else code
    steps = 1 << element.fraction_bits
    return value * (1 / steps) if steps > 1 else value


def _half_step(
    element: HalfStepInteger, scaled: Val, zero_point: Val | None
) -> tuple[Val, Val, Val]:
    """Where half a step is nearest; the uniform code elsewhere, as a float; the code of zero."""
    magnitude = absolute(scaled)
    outside = magnitude.compare("gt", element.fraction / 2)
    inside = magnitude.compare("lt", (1 + element.fraction) / 2)
    offset = constant(element.offset, scaled.type) if zero_point is None else zero_point
    return outside & inside, clamp(round_even(scaled) + offset, 0, element.top), offset


def _uniform_code(element: Uniform, scaled: Val) -> Val:
    """formats.md 5.2: q = RNE((clip(w / a, -1, 1) + 1) / 2 * n), value = 2 q / n - 1."""
    return round_even((clamp(scaled, -1, 1) + 1.0) / 2.0 * float(element.steps))


def _ranked_values(element: Table) -> np.ndarray:
    """The distinct values in ascending order, as the encoder of dialects/formats ranks them."""
    _, code_of_rank = table_ranks(element)
    values = element_values(element)
    return values if code_of_rank is None else values[code_of_rank]


def _by_rank(element: Table, scaled: Val, results: Sequence[Val]) -> Val:
    """The result of the rank that an input has among the table's values."""
    boundaries, _ = table_ranks(element)
    found = results[0]
    for boundary, result in zip(boundaries, results[1:], strict=True):
        reached = scaled.compare("ge", float(np.float32(boundary)))
        found = select(reached, result, found)
    return found

"""Transcendental functions on floats or vectors of them, to two units in the last place."""

from __future__ import annotations

import math

from .emit import (
    Val,
    constant,
    f32,
    float_to_signed,
    fma,
    i32,
    maximum,
    minimum,
    reinterpret,
    round_even,
    select,
    splat,
)

LN2_HIGH = 0.693145751953125
LN2_LOW = math.log(2.0) - LN2_HIGH


def exponential(x: Val) -> Val:
    """e^x for a vector of floats; 0 below -87.3, never above e^88, NaN of NaN."""
    bounded = minimum(maximum(x, splat(-87.33)), splat(88.0))
    n, power = _parts(bounded)
    scaled = power * _power_of_two(n)
    power_of_number = select(x.compare("ge", -87.33), scaled, splat(0.0))
    return select(x.compare("eq", x), power_of_number, x)


def whole_exponential(x: Val) -> Val:
    """
    e^x for a float or a vector of floats: subnormal and infinite where it should be, NaN of NaN.

    The bounds are those behind which every result is 0 or infinite. 2^n is multiplied in as two
    normal powers, the second of which rounds.
    """
    bounded = minimum(maximum(x, constant(-104.0, x.type)), constant(89.0, x.type))
    n, power = _parts(bounded)
    half = n.shift_right_signed(1)
    result = power * _power_of_two(half) * _power_of_two(n - half)
    return select(x.compare("eq", x), result, x)


def _parts(x: Val) -> tuple[Val, Val]:
    """
    n and e^r of x = n ln 2 + r with |r| <= ln 2 / 2.

    e^r is a Taylor polynomial of degree 7: its relative error on that interval is below 2^-26.
    """
    n = round_even(x * (1.0 / math.log(2.0)))
    r = fma(n, constant(-LN2_HIGH, x.type), x)
    r = fma(n, constant(-LN2_LOW, x.type), r)
    total = constant(1.0 / math.factorial(7), x.type)
    for degree in range(6, -1, -1):
        total = fma(total, r, constant(1.0 / math.factorial(degree), x.type))
    return float_to_signed(n, i32()), total


def _power_of_two(n: Val) -> Val:
    return reinterpret((n + 127) << 23, f32())

"""Transcendental functions on vectors of floats, accurate to about two units in the last place."""

from __future__ import annotations

import math

from .emit import (
    Val,
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
    """
    e^x for a vector of floats; 0 below -87.3, never above e^88, NaN of NaN.

    x = n ln 2 + r with |r| <= ln 2 / 2, then a Taylor polynomial of degree 7 (relative error below
    2^-26 on that interval) and a scaling by 2^n through the exponent bits.
    """
    bounded = minimum(maximum(x, splat(-87.33)), splat(88.0))
    n = round_even(bounded * (1.0 / math.log(2.0)))
    r = fma(n, splat(-LN2_HIGH), bounded)
    r = fma(n, splat(-LN2_LOW), r)
    total = splat(1.0 / math.factorial(7))
    for degree in range(6, -1, -1):
        total = fma(total, r, splat(1.0 / math.factorial(degree)))
    power = (float_to_signed(n, i32()) + 127) << 23
    scaled = total * reinterpret(power, f32())
    power_of_number = select(x.compare("ge", -87.33), scaled, splat(0.0))
    return select(x.compare("eq", x), power_of_number, x)

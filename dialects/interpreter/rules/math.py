"""
`math`: element by element, in the dtype of the operands.

The functions are NumPy's, within an ulp or two of the true value; `erf` is within two ulps in f64
and the nearest float in f32.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..element_types import Array, signless
from ..frame import Frame, Rule
from ..program import Step
from .arith import elementwise

STEPS_PER_UNIT = 32
ERF_IS_ONE = 6  # 1 - erf(6) = 2e-17, below half an ulp of 1 in f64
TERMS = 8  # of the Taylor series at |h| <= 1/64: the next one is below 1e-16


def erf_table() -> NDArray[np.float64]:
    """
    float64[nodes, TERMS + 1]: Taylor coefficients of erf at multiples of 1/32.

    erf^(n+1)(x) = (-1)^n H_n(x) 2/sqrt(pi) exp(-x^2), H_n the Hermite polynomials.
    """
    nodes = np.arange(ERF_IS_ONE * STEPS_PER_UNIT + 1) / STEPS_PER_UNIT
    slope = 2 / math.sqrt(math.pi) * np.exp(-nodes * nodes)
    columns = [np.array([math.erf(node) for node in nodes])]
    previous, hermite = np.zeros_like(nodes), np.ones_like(nodes)
    for order in range(TERMS):
        columns.append((-1) ** order * hermite * slope / math.factorial(order + 1))
        previous, hermite = hermite, 2 * nodes * hermite - 2 * order * previous
    return np.stack(columns, axis=1)


ERF_TABLE = erf_table()


def erf(x: Array) -> Array:
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, computed in f64."""
    magnitude = np.minimum(np.abs(x.astype(np.float64)), ERF_IS_ONE)
    node = np.rint(np.nan_to_num(magnitude) * STEPS_PER_UNIT).astype(np.intp)
    offset = magnitude - node / STEPS_PER_UNIT
    total = ERF_TABLE[node, TERMS]
    for order in range(TERMS - 1, -1, -1):
        total = total * offset + ERF_TABLE[node, order]
    return np.copysign(total, x.astype(np.float64)).astype(x.dtype)


def reciprocal_root(x: Array) -> Array:
    return np.divide(x.dtype.type(1), np.sqrt(x))


def round_half_away(x: Array) -> Array:
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(x.dtype.type(1), x), whole)


def integer_power(base: Array, exponent: Array) -> Array:
    """base ** exponent modulo 2^width by squaring; a negative exponent keeps only 1 and -1."""
    result = np.ones(np.broadcast(base, exponent).shape, base.dtype)
    square, left = base, np.maximum(exponent, 0)
    while left.any():
        result = np.where(left & 1, result * square, result)
        square, left = square * square, left >> 1
    inverse = np.where(base == 1, 1, np.where(base == -1, np.where(exponent & 1, -1, 1), 0))
    return np.where(exponent < 0, inverse, result).astype(base.dtype)


def float_to_integer_power(base: Array, exponent: Array) -> Array:
    """base ** exponent by squaring, as compilers expand it; computed in the base's dtype."""
    one = base.dtype.type(1)
    result = np.full(np.broadcast(base, exponent).shape, one)
    square, left = base, np.abs(exponent.astype(np.int64))
    while left.any():
        result = np.where(left & 1, result * square, result)
        left = left >> 1
        square = square * square
    return np.where(exponent < 0, one / result, result)


def fused_multiply_add(a: Array, b: Array, c: Array) -> Array:
    """a * b + c, in f64 for narrower floats: one rounding but for rare ties."""
    if a.dtype == np.float64:
        return a * b + c
    return (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(a.dtype)


def count(function: Callable[[Array], Array]) -> Rule:
    """A bit count, in the dtype of its operand."""

    def rule(_step: Step, operands: list[Array], _frame: Frame) -> Array:
        (bits,) = operands
        return signless(function(bits.view(f"u{bits.dtype.itemsize}")), bits.dtype)

    return rule


def leading_zeros(bits: Array) -> Array:
    for shift in (1, 2, 4, 8, 16, 32):
        if shift < 8 * bits.dtype.itemsize:
            bits = bits | bits >> bits.dtype.type(shift)
    return np.bitwise_count(~bits)


def trailing_zeros(bits: Array) -> Array:
    return np.bitwise_count(~bits & (bits - bits.dtype.type(1)))


def sine_and_cosine(_step: Step, operands: list[Array], _frame: Frame) -> list[Array]:
    return [np.sin(operands[0]), np.cos(operands[0])]


RULES: dict[str, Rule] = {
    "math.absf": elementwise(np.abs),
    "math.absi": elementwise(np.abs),
    "math.acos": elementwise(np.arccos),
    "math.acosh": elementwise(np.arccosh),
    "math.asin": elementwise(np.arcsin),
    "math.asinh": elementwise(np.arcsinh),
    "math.atan": elementwise(np.arctan),
    "math.atan2": elementwise(np.arctan2),
    "math.atanh": elementwise(np.arctanh),
    "math.cbrt": elementwise(np.cbrt),
    "math.ceil": elementwise(np.ceil),
    "math.copysign": elementwise(np.copysign),
    "math.cos": elementwise(np.cos),
    "math.cosh": elementwise(np.cosh),
    "math.ctlz": count(leading_zeros),
    "math.ctpop": count(np.bitwise_count),
    "math.cttz": count(trailing_zeros),
    "math.erf": elementwise(erf),
    "math.exp": elementwise(np.exp),
    "math.exp2": elementwise(np.exp2),
    "math.expm1": elementwise(np.expm1),
    "math.floor": elementwise(np.floor),
    "math.fma": elementwise(fused_multiply_add),
    "math.fpowi": elementwise(float_to_integer_power),
    "math.ipowi": elementwise(integer_power),
    "math.isfinite": elementwise(np.isfinite),
    "math.isinf": elementwise(np.isinf),
    "math.isnan": elementwise(np.isnan),
    "math.log": elementwise(np.log),
    "math.log10": elementwise(np.log10),
    "math.log1p": elementwise(np.log1p),
    "math.log2": elementwise(np.log2),
    "math.powf": elementwise(np.power),
    "math.round": elementwise(round_half_away),
    "math.roundeven": elementwise(np.rint),
    "math.rsqrt": elementwise(reciprocal_root),
    "math.sin": elementwise(np.sin),
    "math.sincos": sine_and_cosine,
    "math.sinh": elementwise(np.sinh),
    "math.sqrt": elementwise(np.sqrt),
    "math.tan": elementwise(np.tan),
    "math.tanh": elementwise(np.tanh),
    "math.trunc": elementwise(np.trunc),
}

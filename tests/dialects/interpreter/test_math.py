"""`math` against Python's own math module, and torch where that has the function."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from qcc.dialects.interpreter.rules.math import RULES, erf

f32 = partial(np.array, dtype=np.float32)
i8 = partial(np.array, dtype=np.int8)

POSITIVE = np.linspace(0.05, 4, 200)
SMALL = np.linspace(-0.95, 0.95, 201)
WIDE = np.linspace(-6, 6, 401)

UNARY = {
    "absf": (abs, WIDE),
    "acos": (math.acos, SMALL),
    "acosh": (math.acosh, POSITIVE + 1),
    "asin": (math.asin, SMALL),
    "asinh": (math.asinh, WIDE),
    "atan": (math.atan, WIDE),
    "atanh": (math.atanh, SMALL),
    "cbrt": (math.cbrt, WIDE),
    "ceil": (math.ceil, WIDE),
    "cos": (math.cos, WIDE),
    "cosh": (math.cosh, WIDE),
    "erf": (math.erf, WIDE),
    "exp": (math.exp, WIDE),
    "exp2": (math.exp2, WIDE),
    "expm1": (math.expm1, WIDE),
    "floor": (math.floor, WIDE),
    "log": (math.log, POSITIVE),
    "log10": (math.log10, POSITIVE),
    "log1p": (math.log1p, POSITIVE),
    "log2": (math.log2, POSITIVE),
    "roundeven": (round, WIDE),
    "rsqrt": (lambda x: 1 / math.sqrt(x), POSITIVE),
    "sin": (math.sin, WIDE),
    "sinh": (math.sinh, WIDE),
    "sqrt": (math.sqrt, POSITIVE),
    "tan": (math.tan, SMALL),
    "tanh": (math.tanh, WIDE),
    "trunc": (math.trunc, WIDE),
}


def text(op: str, type_: str, operands: int = 1, result: str | None = None) -> str:
    result = result or type_
    names = [f"%{i}" for i in range(operands)]
    arguments = ", ".join(f"{name}: tensor<?x{type_}>" for name in names)
    return f"""
    func.func @main({arguments}) -> tensor<?x{result}> {{
      %r = math.{op} {", ".join(names)} : tensor<?x{type_}>
      return %r : tensor<?x{result}>
    }}"""


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize(("type_", "tolerance"), [("f64", 1e-14), ("f32", 5e-7)])
def test_unary(run, op, type_, tolerance):
    function, values = UNARY[op]
    values = values.astype({"f64": np.float64, "f32": np.float32}[type_])
    (got,) = run(text(op, type_), values)
    assert got.dtype == values.dtype
    assert_allclose(got, [function(float(v)) for v in values], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("op", "function"), [("powf", math.pow), ("atan2", math.atan2), ("copysign", math.copysign)]
)
def test_binary(run, op, function):
    left, right = POSITIVE, np.linspace(-3, 3, POSITIVE.size)
    (got,) = run(text(op, "f64", 2), left, right)
    assert_allclose(got, list(map(function, left, right)), rtol=1e-13)


def test_erf_in_float32_is_the_nearest_float():
    values = np.concatenate([np.linspace(-5, 5, 20001), np.logspace(-30, 1, 2001)])
    values = values.astype(np.float32)
    exact = np.array([math.erf(float(v)) for v in values])
    assert_array_equal(erf(values), exact.astype(np.float32), strict=True)


def test_erf_in_float64_is_within_two_ulps():
    values = np.concatenate([np.linspace(-7, 7, 20001), np.logspace(-300, 1, 2001)])
    exact = np.array([math.erf(v) for v in values])
    assert np.all(np.abs(erf(values) - exact) <= 2 * np.spacing(np.abs(exact)))


def test_erf_of_the_special_values():
    values = f32([np.nan, np.inf, -np.inf, 0.0, -0.0])
    got = erf(values)
    assert_array_equal(got, f32([np.nan, 1, -1, 0, -0.0]))
    assert np.signbit(got[4])


def test_classification(run):
    values = f32([1, np.nan, np.inf, -np.inf])
    for op in ("isnan", "isinf", "isfinite"):
        expected = getattr(torch, op)(torch.tensor(values)).numpy()
        assert_array_equal(run(text(op, "f32", 1, "i1"), values)[0], expected, strict=True)


def test_bit_counts_of_all_bytes(run):
    values = np.arange(256).astype(np.uint8)
    spelled = [format(v, "08b") for v in values]
    for op, count in {
        "ctpop": lambda s: s.count("1"),
        "ctlz": lambda s: len(s) - len(s.lstrip("0")),
        "cttz": lambda s: len(s) - len(s.rstrip("0")),
    }.items():
        (got,) = run(text(op, "i8"), values.view(np.int8))
        assert_array_equal(got, np.array([count(s) for s in spelled], np.int8), strict=True)


def test_integer_powers_wrap(run):
    base, exponent = (g.ravel() for g in np.meshgrid(np.arange(-4, 5, dtype=np.int8), i8(range(9))))
    (got,) = run(text("ipowi", "i8", 2), base, exponent)
    powers = [int(b) ** int(e) for b, e in zip(base, exponent, strict=True)]
    assert_array_equal(got, [(p + 128) % 256 - 128 for p in powers])


def test_float_to_an_integer_power(run):
    source = """
    func.func @main(%a: tensor<?xf32>, %b: tensor<?xi64>) -> tensor<?xf32> {
      %r = math.fpowi %a, %b : tensor<?xf32>, tensor<?xi64>
      return %r : tensor<?xf32>
    }"""
    base = f32([2, -3, 0.5, 7, -1.5])
    for power in (-3, -1, 0, 1, 2, 3, 8):
        (got,) = run(source, base, np.full(5, power, np.int64))
        assert_allclose(got, np.power(base.astype(np.float64), power), rtol=1e-6)


def test_rounding_half_away_from_zero(run):
    values = f32([-2.5, -0.5, 0.49999997, 0.5, 1.5, 2.5, 1e9])
    (got,) = run(text("round", "f32"), values)
    assert_array_equal(got, f32([-3, -1, 0, 1, 2, 3, 1e9]))


def test_fused_multiply_add_rounds_once(run):
    a = f32([1 + 2**-12])
    (got,) = run(text("fma", "f32", 3), a, a, f32([-1]))
    assert got[0] == np.float32(2**-11 + 2**-24)
    assert a[0] * a[0] - np.float32(1) != got[0]


def test_sine_and_cosine_together(run):
    source = """
    func.func @main(%a: tensor<?xf64>) -> (tensor<?xf64>, tensor<?xf64>) {
      %s, %c = math.sincos %a : tensor<?xf64>
      return %s, %c : tensor<?xf64>, tensor<?xf64>
    }"""
    sine, cosine = run(source, WIDE)
    assert_allclose(sine, [math.sin(v) for v in WIDE], atol=1e-15)
    assert_allclose(cosine, [math.cos(v) for v in WIDE], atol=1e-15)


def test_every_rule_is_an_op_of_the_dialect():
    assert all(name.startswith("math.") for name in RULES)

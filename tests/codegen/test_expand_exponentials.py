"""Exponentials of floats as arithmetic: their accuracy over all floats, and what they replace."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.codegen.cpu.expand_exponentials import expand_exponentials
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context

T = "tensor<?xf32>"
BODY = f"""
  %y = linalg.generic {{indexing_maps = [affine_map<(d) -> (d)>, affine_map<(d) -> (d)>],
    iterator_types = ["parallel"]}} ins(%x : {T}) outs(%x : {T}) {{
  ^bb0(%in: f32, %out: f32):
    %e = math.exp %in : f32
    linalg.yield %e : f32
  }} -> {T}
  return %y : {T}"""


@pytest.fixture(scope="module")
def exponential(programs):
    programs.function("exponential", f"(%x: {T}) -> {T}", BODY)
    return lambda x: next(iter(programs.run("exponential", x, rank=1).values()))


def test_two_units_in_the_last_place(exponential) -> None:
    """Every 977th of all floats, and all that are near where results end to be finite."""
    bits = [np.arange(0, 1 << 32, 977, dtype=np.int64)]
    for edge in (-104.0, -87.5, -0.0, 0.0, 88.72, 89.0):
        centre = int(np.float32(edge).view(np.uint32))
        bits.append(np.arange(max(centre - 9999, 0), centre + 9999))
    x = np.concatenate(bits).astype(np.uint32).view(np.float32)
    x = x[~np.isnan(x)]
    found = exponential(x)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.exp(x.astype(np.float64))
        nearest = expected.astype(np.float32)
    finite = np.isfinite(nearest)
    np.testing.assert_array_equal(found[~finite], nearest[~finite])
    unit = np.spacing(nearest[finite]).astype(np.float64)
    assert (np.abs(found[finite] - expected[finite]) <= 2 * unit).all()


def test_values_that_are_exact(exponential) -> None:
    x = np.array([0.0, -0.0, -np.inf, np.inf, np.nan, -1e30, 1e30], np.float32)
    expected = np.array([1, 1, 0, np.inf, np.nan, 0, np.inf], np.float32)
    np.testing.assert_array_equal(exponential(x), expected)


def test_doubles_are_left_to_the_library(check) -> None:
    # CHECK: @f(%[[X:.*]]: f32, %[[Y:.*]]: f64)
    # CHECK-NOT: math.exp %[[X]]
    # CHECK: math.exp %[[Y]] : f64
    text = """func.func @f(%x: f32, %y: f64) -> (f32, f64) {
      %a = math.exp %x : f32
      %b = math.exp %y : f64
      return %a, %b : f32, f64
    }"""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        expand_exponentials(module)
        assert module.operation.verify()
        check(str(module))

"""Which ops are taken for GELU, and what becomes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcc.dialects import pim
from qcc.dialects.bindings import ir, linalg
from qcc.dialects.context import make_context
from qcc.dialects.errors import QccError
from qcc.dialects.interpreter import interpret
from qcc.dialects.interpreter.pim_function import function_rule
from qcc.dialects.pim.functions import cells_attribute, cells_of, evaluated
from qcc.dialects.pim.host import FunctionOp
from qcc.dialects.pim.piecewise import FUNCTIONS, Cells, gelu
from qcc.dialects.pim.plan import Plan
from qcc.dialects.regions import walk
from qcc.passes.place_pim_functions import FunctionPlacement, is_function, place_pim_functions

FUNCTION = """
func.func @main(%x: tensor<3x40xf32>) -> tensor<3x40xf32> {
  %half = arith.constant 0.5 : f32
  %one = arith.constant 1.0 : f32
  %root = arith.constant 0.707106769 : f32
  %e = tensor.empty() : tensor<3x40xf32>
  %0 = linalg.generic {iterator_types = ["parallel", "parallel"],
    indexing_maps = [affine_map<(a, b) -> (a, b)>, affine_map<(a, b) -> (a, b)>]}
    ins(%x : tensor<3x40xf32>) outs(%e : tensor<3x40xf32>) {
  ^bb0(%in: f32, %out: f32):
    BODY
    linalg.yield %y : f32
  } -> tensor<3x40xf32>
  return %0 : tensor<3x40xf32>
}
"""
GELU = """
    %a = arith.mulf %in, %root : f32
    %b = math.erf %a : f32
    %c = arith.addf %b, %one : f32
    %d = arith.mulf %c, %half : f32
    %y = arith.mulf %d, %in : f32"""
OTHER_ORDER = """
    %two = arith.constant 1.41421354 : f32
    %a = arith.divf %in, %two : f32
    %b = math.erf %a : f32
    %h = arith.mulf %in, %half : f32
    %c = arith.mulf %h, %b : f32
    %y = arith.addf %h, %c : f32"""


def placed(body: str, **options: Any) -> ir.Module:
    module = ir.Module.parse(FUNCTION.replace("BODY", body))
    given = FunctionPlacement(pim.device("v1A"), ("gelu",), **options)
    place_pim_functions(given)(module.operation, None)
    assert module.operation.verify()
    return module


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (GELU, True),
        (OTHER_ORDER, True),
        (GELU.replace("%c, %half", "%c, %one"), False),
        (GELU.replace("%d, %in", "%d, %out"), False),
        (GELU.replace("math.erf", "math.tanh"), False),
        ("%y = arith.maximumf %in, %half : f32", False),
    ],
)
def test_bodies_are_known_by_what_they_compute(body: str, found: bool) -> None:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(FUNCTION.replace("BODY", body))
        (op,) = (each for each in walk(module) if isinstance(each, linalg.GenericOp))
        assert is_function(op, *FUNCTIONS["gelu"]) is found


def test_the_interpreter_computes_the_table() -> None:
    x = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32) * 3
    x[0, :4] = -np.inf, np.inf, np.nan, -7
    with make_context(), ir.Location.unknown():
        module = placed(GELU)
        (op,) = (each for each in walk(module) if isinstance(each, FunctionOp))
        error = ir.FloatAttr(op.error).value
        (y,) = interpret(module, [x], lambda _: x, rules={"pim.function": function_rule()})
        plan = Plan.of(module)
    assert error < 7e-4
    assert np.abs(y[1:] - gelu(x[1:].astype(np.float64))).max() <= error
    assert np.array_equal(y[0, :4], [0, np.inf, np.nan, 0], equal_nan=True)
    (function,) = plan.functions
    assert (function.name, function.width) == ("gelu", 40)
    assert function.numbers * function.dpus >= x.size
    assert plan.milliseconds == function.cost.total_ms > 0


def test_a_table_is_stored_whole() -> None:
    cells = Cells.of(*FUNCTIONS["gelu"], 256)
    x = np.linspace(-6, 6, 999, dtype=np.float32)
    with make_context(), ir.Location.unknown():
        attribute = ir.Attribute.parse(str(cells_attribute(cells)))
        assert np.array_equal(evaluated(cells_of(attribute), x), evaluated(cells, x))


def test_refusals() -> None:
    with make_context(), ir.Location.unknown():
        with pytest.raises(QccError, match="no gelu for DPUs"):
            placed("%y = arith.addf %in, %half : f32")
        with pytest.raises(QccError, match="'softmax' is no function that DPUs compute"):
            FunctionPlacement(pim.device("v1A"), ("softmax",))

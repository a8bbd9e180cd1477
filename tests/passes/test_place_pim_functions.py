"""Which ops are taken for functions, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qcc.dialects import pim
from qcc.dialects.bindings import MLIRError, ir, linalg
from qcc.dialects.context import make_context
from qcc.dialects.errors import QccError
from qcc.dialects.interpreter import interpret
from qcc.dialects.interpreter.pim_function import function_rule
from qcc.dialects.pim.host import FunctionOp
from qcc.dialects.pim.piecewise import gelu
from qcc.dialects.pim.plan import Plan
from qcc.dialects.pim.smooth import SMOOTH
from qcc.dialects.regions import walk
from qcc.passes.function_placement import FunctionPlacement
from qcc.passes.match_functions import softmax_source, source_of
from qcc.passes.place_pim_functions import place_pim_functions

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


SILU = """
func.func @main(%x: tensor<3x40xf32>) -> tensor<3x40xf32> {
  %one = arith.constant dense<1.0> : tensor<f32>
  %e = tensor.empty() : tensor<3x40xf32>
  %0 = linalg.generic MAPS_1 ins(%x : tensor<3x40xf32>) outs(%e : tensor<3x40xf32>) {
  ^bb0(%in: f32, %out: f32):
    %a = arith.negf %in : f32
    %y = math.exp %a : f32
    linalg.yield %y : f32
  } -> tensor<3x40xf32>
  %1 = linalg.generic {iterator_types = ["parallel", "parallel"], indexing_maps = [
    affine_map<(a, b) -> (a, b)>, affine_map<(a, b) -> ()>, affine_map<(a, b) -> (a, b)>]}
    ins(%0, %one : tensor<3x40xf32>, tensor<f32>) outs(%e : tensor<3x40xf32>) {
  ^bb0(%in: f32, %b: f32, %out: f32):
    %y = arith.addf %in, %b : f32
    linalg.yield %y : f32
  } -> tensor<3x40xf32>
  %2 = linalg.generic MAPS_2 ins(%x, %1 : tensor<3x40xf32>, tensor<3x40xf32>)
    outs(%e : tensor<3x40xf32>) {
  ^bb0(%in: f32, %b: f32, %out: f32):
    %y = arith.divf %in, %b : f32
    linalg.yield %y : f32
  } -> tensor<3x40xf32>
  return %2 : tensor<3x40xf32>
}
"""
SOFTMAX = """
func.func @main(%x: tensor<3x40xf32>, %m: tensor<3xf32>) -> tensor<3x40xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<3x40xf32>
  %r = tensor.empty() : tensor<3xf32>
  %f = linalg.fill ins(%zero : f32) outs(%r : tensor<3xf32>) -> tensor<3xf32>
  %0 = linalg.generic MAPS_ROW ins(%x, %m : tensor<3x40xf32>, tensor<3xf32>)
    outs(%e : tensor<3x40xf32>) {
  ^bb0(%in: f32, %b: f32, %out: f32):
    %a = arith.subf %in, %b : f32
    %y = math.exp %a : f32
    linalg.yield %y : f32
  } -> tensor<3x40xf32>
  %1 = linalg.generic {iterator_types = ["parallel", "reduction"], indexing_maps = [
    affine_map<(a, b) -> (a, b)>, affine_map<(a, b) -> (a)>]}
    ins(%0 : tensor<3x40xf32>) outs(%f : tensor<3xf32>) {
  ^bb0(%in: f32, %out: f32):
    %y = arith.addf %out, %in : f32
    linalg.yield %y : f32
  } -> tensor<3xf32>
  %2 = linalg.generic MAPS_ROW ins(%0, %1 : tensor<3x40xf32>, tensor<3xf32>)
    outs(%e : tensor<3x40xf32>) {
  ^bb0(%in: f32, %b: f32, %out: f32):
    %y = arith.divf %in, %b : f32
    linalg.yield %y : f32
  } -> tensor<3x40xf32>
  return %2 : tensor<3x40xf32>
}
"""
PLAIN = "affine_map<(a, b) -> (a, b)>"
MAPS = {
    "MAPS_1": [PLAIN] * 2, "MAPS_2": [PLAIN] * 3,
    "MAPS_ROW": [PLAIN, "affine_map<(a, b) -> (a)>", PLAIN],
}  # fmt: skip
DPU = pim.device("v1A")


def spelled(text: str) -> str:
    for name, maps in MAPS.items():
        given = f'iterator_types = ["parallel", "parallel"], indexing_maps = [{", ".join(maps)}]'
        text = text.replace(name, f"{{{given}}}")
    return text


def placed(text: str, *functions: str, **options: Any) -> ir.Module:
    module = ir.Module.parse(spelled(text))
    given = FunctionPlacement(options.pop("device", DPU), functions or ("gelu",), **options)
    place_pim_functions(given)(module.operation, None)
    assert module.operation.verify()
    return module


def functions_of(module: ir.Module) -> list[str]:
    return [op.function.value for op in walk(module) if isinstance(op, FunctionOp)]


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
        source = source_of(op.operation.results[0], SMOOTH["gelu"])
        assert (source == op.inputs[0]) if found else source is None


def test_functions_of_several_ops_are_known() -> None:
    with make_context(), ir.Location.unknown():
        module = placed(SILU, "all")
        assert functions_of(module) == ["silu"]
        assert not any(isinstance(each, linalg.GenericOp) for each in walk(module))


def test_softmax_is_known_by_its_ops() -> None:
    """Whatever is subtracted, if it is one number a row."""
    with make_context(), ir.Location.unknown():
        assert functions_of(placed(SOFTMAX, "softmax")) == ["softmax"]
        for before, after in (
            ("arith.addf %out, %in", "arith.mulf %out, %in"),
            ("constant 0.0", "constant 1.0"),
            ("math.exp %a", "math.exp2 %a"),
            ("ins(%0, %1", "ins(%x, %1"),
        ):
            module = ir.Module.parse(spelled(SOFTMAX).replace(before, after))
            values = [op.results[0] for op in walk(module) if isinstance(op, linalg.GenericOp)]
            assert all(softmax_source(each) is None for each in values)


def test_the_interpreter_computes_the_table() -> None:
    x = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32) * 3
    x[0, :4] = -np.inf, np.inf, np.nan, -7
    with make_context(), ir.Location.unknown():
        module = placed(FUNCTION.replace("BODY", GELU))
        (op,) = (each for each in walk(module) if isinstance(each, FunctionOp))
        error = ir.FloatAttr(op.error).value
        (y,) = interpret(module, [x], lambda _: x, rules={"pim.function": function_rule()})
        plan = Plan.of(module)
    assert error < 7e-4
    assert np.abs(y[1:] - gelu(x[1:].astype(np.float64))).max() <= error
    assert np.array_equal(y[0, :4], [0, np.inf, np.nan, 0], equal_nan=True)
    (function,) = plan.functions
    assert (function.name, function.width) == ("gelu", 40)
    assert function.rows * function.dpus >= x.size
    assert plan.milliseconds == function.cost.total_ms > 0


def test_auto_asks_the_cost_model() -> None:
    """Nothing so small goes to DPUs, unless their host is as slow; what is named goes anyway."""
    slow = replace(DPU, host=replace(DPU.host, functions_per_us=0.01))
    with make_context(), ir.Location.unknown():
        stays = placed(SILU, "auto")
        assert functions_of(stays) == []
        ((_, reason),) = Plan.of(stays).host
        assert "silu takes 0.4" in reason
        assert "here by the cost model" in reason
        assert "pim.kernel" not in str(stays)
        assert functions_of(placed(SILU, "auto", device=slow)) == ["silu"]
        assert functions_of(placed(SILU, "auto", "silu")) == ["silu"]


def test_what_does_not_fit_stays() -> None:
    small = replace(DPU, name="small", base="v1A", wram=1400, stack=256, runtime=0)
    with make_context(), ir.Location.unknown():
        module = placed(SOFTMAX, "softmax", device=small)
        assert functions_of(module) == []
        ((_, reason),) = Plan.of(module).host
    assert reason.startswith("softmax needs more memory")


def test_the_verifier_reads_forms() -> None:
    with make_context(), ir.Location.unknown():
        text = str(placed(SOFTMAX, "softmax"))
        for before, after, reason in (
            ('kind = "softmax"', 'kind = "cosine"', "kind 'cosine'"),
            ("dpus = 3", "dpus = 0", "on each of 0 DPUs"),
            ("rows = 1", "rows = 0", "0 rows"),
        ):
            assert before in text
            with pytest.raises(MLIRError, match=reason):
                ir.Module.parse(text.replace(before, after))


def test_refusals() -> None:
    with make_context(), ir.Location.unknown():
        with pytest.raises(QccError, match="the model has no gelu for DPUs"):
            placed(SILU)
        with pytest.raises(QccError, match="the model has no function for DPUs"):
            placed(FUNCTION.replace("BODY", "%y = arith.addf %in, %half : f32"), "all")
        with pytest.raises(QccError, match="'cosine' is no function that DPUs compute"):
            FunctionPlacement(DPU, ("cosine",))

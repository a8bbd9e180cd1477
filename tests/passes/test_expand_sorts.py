"""Sorts and scans written out mean what the interpreter says of them."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.interpreter import interpret
from qcc.passes.expand_sorts import expand_sorts

NAN = np.nan


def sort(compare: str, axis: int, element: str = "f32") -> str:
    keys, places = f"tensor<?x5x{element}>", "tensor<?x5xi64>"
    return f"""
    func.func @main(%k: {keys}, %p: {places}) -> ({keys}, {places}) {{
      %y:2 = tm_tensor.sort dimension({axis}) outs(%k, %p : {keys}, {places}) {{
      ^bb0(%a: {element}, %b: {element}, %c: i64, %d: i64):
        %first = {compare}, %a, %b : {element}
        tm_tensor.yield %first : i1
      }} -> {keys}, {places}
      return %y#0, %y#1 : {keys}, {places}
    }}"""


def scan(inclusive: str, body: str) -> str:
    return f"""
    func.func @main(%x: tensor<?x4xf32>, %s: tensor<4xf32>) -> (tensor<?x4xf32>, tensor<4xf32>) {{
      %c0 = arith.constant 0 : index
      %n = tensor.dim %x, %c0 : tensor<?x4xf32>
      %e = tensor.empty(%n) : tensor<?x4xf32>
      %y:2 = tm_tensor.scan dimension(0) inclusive({inclusive})
          ins(%x : tensor<?x4xf32>) outs(%e, %s : tensor<?x4xf32>, tensor<4xf32>) {{
      ^bb0(%a: f32, %b: f32):
        %c = {body} %a, %b : f32
        tm_tensor.yield %c : f32
      }} -> tensor<?x4xf32>, tensor<4xf32>
      return %y#0, %y#1 : tensor<?x4xf32>, tensor<4xf32>
    }}"""


def both(text: str, *inputs: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The results before and after the pass."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        before = interpret(module, inputs, params=lambda name: np.empty(0))
        expand_sorts(module.operation)
        assert module.operation.verify()
        assert "tm_tensor" not in str(module)
        return before, interpret(module, inputs, params=lambda name: np.empty(0))


KEYS = np.array(
    [[3, 1, 3, NAN, -2], [0, -0.0, 0, 1, 0], [NAN, NAN, 1, np.inf, -np.inf]], np.float32
)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("predicate", ["oge", "ogt", "ole", "ult"])
def test_ties_keep_their_order_and_nan_is_largest(predicate: str, axis: int) -> None:
    places = np.arange(15).reshape(3, 5)
    before, after = both(sort(f"arith.cmpf {predicate}", axis), KEYS, places)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("predicate", ["slt", "sge"])
def test_whole_numbers(predicate: str) -> None:
    keys = np.array([[4, -1, 4, 0, 2]], np.int64)
    before, after = both(sort(f"arith.cmpi {predicate}", 1, "i64"), keys, keys * 10)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("inclusive", ["true", "false"])
@pytest.mark.parametrize("body", ["arith.addf", "arith.maximumf", "arith.mulf"])
def test_prefixes(body: str, inclusive: str) -> None:
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    start = np.full(4, 0.5, np.float32)
    before, after = both(scan(inclusive, body), x, start)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_other_comparisons_are_refused() -> None:
    text = sort("arith.cmpf une", 1)
    with (
        make_context(),
        ir.Location.unknown(),
        pytest.raises(UnsupportedError, match="cuda has no"),
    ):
        expand_sorts(ir.Module.parse(text).operation)

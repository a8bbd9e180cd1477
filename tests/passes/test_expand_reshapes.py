"""Reshapes to sizes that are given one by one: the same values, as views that name their sizes."""

from __future__ import annotations

import numpy as np

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.interpreter import interpret
from qcc.passes.expand_reshapes import expand_reshapes

SWAPPED = """
func.func @main(%x: tensor<?x?x4xf32>) -> tensor<?x?x4xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %four = arith.constant 4 : i64
  %a = tensor.dim %x, %c0 : tensor<?x?x4xf32>
  %b = tensor.dim %x, %c1 : tensor<?x?x4xf32>
  %i = arith.index_cast %a : index to i64
  %j = arith.index_cast %b : index to i64
  %sizes = tensor.from_elements %j, %i, %four : tensor<3xi64>
  %y = tensor.reshape %x(%sizes) : (tensor<?x?x4xf32>, tensor<3xi64>) -> tensor<?x?x4xf32>
  return %y : tensor<?x?x4xf32>
}
"""
FLAT = """
func.func @main(%x: tensor<?x4xf32>, %n: tensor<1xi64>) -> (tensor<?xf32>, tensor<?xf32>) {
  %c0 = arith.constant 0 : index
  %four = arith.constant 4 : index
  %rows = tensor.dim %x, %c0 : tensor<?x4xf32>
  %count = arith.muli %rows, %four : index
  %sizes = tensor.from_elements %count : tensor<1xindex>
  %y = tensor.reshape %x(%sizes) : (tensor<?x4xf32>, tensor<1xindex>) -> tensor<?xf32>
  %z = tensor.reshape %x(%n) : (tensor<?x4xf32>, tensor<1xi64>) -> tensor<?xf32>
  return %y, %z : tensor<?xf32>, tensor<?xf32>
}
"""


def expanded(text: str) -> ir.Module:
    module = ir.Module.parse(text)
    expand_reshapes(module.operation)
    assert module.operation.verify()
    return module


def test_several_open_sizes(check) -> None:
    # CHECK: %[[ONE:.*]] = tensor.collapse_shape %arg0
    # CHECK: tensor.expand_shape %[[ONE]] {{.*}} output_shape [%{{.*}}, %{{.*}}, 4]
    # CHECK-NOT: tensor.reshape
    with make_context(), ir.Location.unknown():
        module = expanded(SWAPPED)
        check(str(module))
        x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        [y] = interpret(module, [x], params=lambda name: np.empty(0))
    np.testing.assert_array_equal(y, x.reshape(3, 2, 4))


def test_sizes_in_a_tensor_of_the_caller_stay(check) -> None:
    # CHECK: tensor.collapse_shape
    # CHECK: tensor.reshape %arg0(%arg1)
    with make_context(), ir.Location.unknown():
        check(str(expanded(FLAT)))

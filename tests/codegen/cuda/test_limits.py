"""Tensors that kernels cannot count are refused, by the compiler or by the call."""

from __future__ import annotations

import pytest

from qcc.codegen.cuda.check_counts import check_counts
from qcc.codegen.cuda.emulator.device import EmulatedDevice
from qcc.codegen.cuda.emulator.launch import Mode
from qcc.codegen.cuda.execution import Execution
from qcc.codegen.cuda.limits import MOST_ELEMENTS, check_grid
from qcc.codegen.cuda.read_plan import read_function
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError

INPUT = """
func.func @main(%x: tensor<65536x32768xf16>) -> tensor<65536x32768xf16> {
  return %x : tensor<65536x32768xf16>
}
"""
PARAMETER = """
func.func @main(%x: tensor<2x65536xf16>) -> tensor<2x32768xf16> {
  %w = "qcc.param"() {symbol = "w"} : () -> !qcc.packed<tensor<32768x65536xf32>, "int4">
  %0 = "qcc.linear"(%x, %w) {operandSegmentSizes = array<i32: 1, 1, 0>} :
    (tensor<2x65536xf16>, !qcc.packed<tensor<32768x65536xf32>, "int4">) -> tensor<2x32768xf16>
  return %0 : tensor<2x32768xf16>
}
"""
OPEN = """
func.func @main(%x: tensor<?x?xf16>) -> tensor<?x?xf16> {
  %q = "qcc.quantize"(%x) : (tensor<?x?xf16>) -> !qcc.packed<tensor<?x?xf16>, "int8">
  return %x : tensor<?x?xf16>
}
"""


def test_static_sizes() -> None:
    with make_context():
        module = ir.Module.parse(INPUT)
        with pytest.raises(UnsupportedError, match="2147483648 elements") as told:
            check_counts(module.operation)
    assert told.value.next_step == "run the model on 1/2 of its rows at a time"


def test_rows_of_packed_weights_are_found_with_64_bits() -> None:
    with make_context():
        check_counts(ir.Module.parse(PARAMETER).operation)


def test_sizes_of_a_call() -> None:
    with make_context():
        module = ir.Module.parse(OPEN)
        check_counts(module.operation)
        function = read_function(module, "main", {})
    execution = Execution(function, EmulatedDevice({}, Mode()), stored={})
    execution.situation([(MOST_ELEMENTS, 1)], {})
    with pytest.raises(UnsupportedError, match="with inputs of these sizes, a tensor has"):
        execution.situation([(1 << 16, 1 << 16)], {})


@pytest.mark.parametrize(("axis", "most"), [("x", 2**31 - 1), ("y", 65535), ("z", 65535)])
def test_grids(axis: str, most: int) -> None:
    check_grid("matmul_0", [most if each == axis else 1 for each in "xyz"])
    with pytest.raises(UnsupportedError, match=f"{most + 1} blocks along {axis}") as told:
        check_grid("matmul_0", [most + 1 if each == axis else 1 for each in "xyz"], "model.py:3")
    assert told.value.where == "model.py:3"
    assert told.value.next_step == "run the model on 1/2 of its batch at a time"

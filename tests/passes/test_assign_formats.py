"""Formats of parameters and of activations."""

from __future__ import annotations

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.passes.assign_formats import FormatAssignment, assign_formats

TEXT = """
func.func @main(%x: tensor<2x4xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>, tensor<3x4xf32>) {
  %w = "qcc.param"() {symbol = "a.weight"} : () -> tensor<3x4xf32>
  %y = "qcc.linear"(%x, %w) {layer = "a", operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
  %z = "qcc.linear"(%x, %w) {layer = "b", operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
  %n = math.absf %w : tensor<3x4xf32>
  return %y, %z, %n : tensor<2x3xf32>, tensor<2x3xf32>, tensor<3x4xf32>
}"""


def assigned(assignment: FormatAssignment, text: str = TEXT) -> str:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        assign_formats(assignment)(module.operation, None)
        assert module.operation.verify()
        return str(module)


def test_a_weight_is_packed_and_decoded_for_other_readers(check) -> None:
    # CHECK: %[[W:.*]] = "qcc.param"() {{.*}} -> !qcc.packed<tensor<3x4xf32>, "int8">
    # CHECK: %[[D:.*]] = "qcc.dequantize"(%[[W]])
    # CHECK: "qcc.linear"(%{{.*}}, %[[W]])
    # CHECK: "qcc.linear"(%{{.*}}, %[[W]])
    # CHECK: math.absf %[[D]]
    # CHECK-NOT: qcc.param
    check(assigned(FormatAssignment(weights={"a.weight": "int8"})))


def test_layers_share_one_rounding_of_an_activation(check) -> None:
    # CHECK: %[[Q:.*]] = "qcc.quantize"(%arg0)
    # CHECK: %[[X:.*]] = "qcc.dequantize"(%[[Q]])
    # CHECK: "qcc.linear"(%[[X]], %{{.*}})
    # CHECK-NOT: qcc.quantize
    # CHECK: "qcc.linear"(%[[X]], %{{.*}})
    check(assigned(FormatAssignment(activations={"a": "int8", "b": "int8"})))


def test_layers_round_the_same_activation_differently(check) -> None:
    # CHECK: "qcc.quantize"(%arg0) {{.*}}"int8"
    # CHECK: "qcc.quantize"(%arg0) {{.*}}"mxfp4"
    check(assigned(FormatAssignment(activations={"a": "int8", "b": "mxfp4"})))


def test_nothing_assigned_changes_nothing(check) -> None:
    # CHECK-NOT: qcc.packed
    # CHECK: qcc.linear
    # CHECK-NOT: qcc.quantize
    check(assigned(FormatAssignment()))


CONV = """
func.func @main(%x: tensor<?x40x?x8xf32>) -> (tensor<?x6x?x8xf32>, tensor<?x40x?x8xf32>) {
  %w = "qcc.param"() {symbol = "a.weight"} : () -> tensor<6x40x1x1xf32>
  %d = "qcc.param"() {symbol = "b.weight"} : () -> tensor<40x1x1x1xf32>
  %y = "qcc.conv2d"(%x, %w) {layer = "a", stride = array<i64: 1, 1>, padding = array<i64: 0, 0>,
    dilation = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<?x40x?x8xf32>, tensor<6x40x1x1xf32>) -> tensor<?x6x?x8xf32>
  %z = "qcc.conv2d"(%x, %d) {layer = "b", stride = array<i64: 1, 1>, padding = array<i64: 0, 0>,
    dilation = array<i64: 1, 1>, groups = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<?x40x?x8xf32>, tensor<40x1x1x1xf32>) -> tensor<?x40x?x8xf32>
  return %y, %z : tensor<?x6x?x8xf32>, tensor<?x40x?x8xf32>
}"""


def test_blocks_of_a_convolution_run_along_all_channels(check) -> None:
    # CHECK: %[[T:.*]] = linalg.transpose ins(%arg0 : {{.*}} permutation = [0, 2, 3, 1]
    # CHECK: %[[Q:.*]] = "qcc.quantize"(%[[T]]) {{.*}} !qcc.packed<tensor<?x?x8x40xf32>, "mxfp4">
    # CHECK: %[[D:.*]] = "qcc.dequantize"(%[[Q]])
    # CHECK: %[[X:.*]] = linalg.transpose ins(%[[D]] : {{.*}} permutation = [0, 3, 1, 2]
    # CHECK: "qcc.conv2d"(%[[X]], %{{.*}} groups = 1
    # CHECK-NOT: linalg.transpose
    # CHECK-NOT: qcc.quantize
    # CHECK: "qcc.conv2d"(%[[X]], %{{.*}} groups = 40
    check(assigned(FormatAssignment(activations={"a": "mxfp4", "b": "mxfp4"}), CONV))


def test_a_transpose_that_comes_later_is_not_read(check) -> None:
    # CHECK: %[[T:.*]] = linalg.transpose ins(%arg0
    # CHECK: "qcc.quantize"(%[[T]])
    # CHECK: "qcc.quantize"(%[[T]])
    # CHECK: linalg.transpose ins(%arg0
    later = """
      %e = tensor.empty() : tensor<2x5x5x40xf32>
      %p = linalg.transpose ins(%x : tensor<2x40x5x5xf32>) outs(%e : tensor<2x5x5x40xf32>)
        permutation = [0, 2, 3, 1]
      return %y, %z, %p : tensor<2x6x5x5xf32>, tensor<2x40x5x5xf32>, tensor<2x5x5x40xf32>"""
    body, _, _ = (
        CONV.replace("?x40x?x8", "2x40x5x5").replace("?x6x?x8", "2x6x5x5").rpartition("  return")
    )
    text = f"{body}{later}\n}}".replace(
        "tensor<2x40x5x5xf32>) {", "tensor<2x40x5x5xf32>, tensor<2x5x5x40xf32>) {", 1
    )
    check(assigned(FormatAssignment(activations={"a": "mxfp4", "b": "mxint8"}), text))


BRANCHES = """
func.func @main(%x: tensor<2x4xf32>, %c: i1) -> (tensor<2x3xf32>, tensor<2x3xf32>) {
  %w = "qcc.param"() {symbol = "a.weight"} : () -> tensor<3x4xf32>
  %y = scf.if %c -> tensor<2x3xf32> {
    %i = "qcc.linear"(%x, %w) {layer = "a", operandSegmentSizes = array<i32: 1, 1, 0>}
      : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
    scf.yield %i : tensor<2x3xf32>
  } else {
    %o = tensor.empty() : tensor<2x3xf32>
    scf.yield %o : tensor<2x3xf32>
  }
  %z = "qcc.linear"(%x, %w) {layer = "b", operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
  return %y, %z : tensor<2x3xf32>, tensor<2x3xf32>
}"""


def test_a_rounding_inside_a_branch_is_not_read_outside(check) -> None:
    # CHECK: scf.if
    # CHECK: "qcc.quantize"(%arg0)
    # CHECK: else
    # CHECK: %[[Q:.*]] = "qcc.quantize"(%arg0)
    # CHECK: %[[X:.*]] = "qcc.dequantize"(%[[Q]])
    # CHECK: "qcc.linear"(%[[X]]
    check(assigned(FormatAssignment(activations={"a": "int8", "b": "int8"}), BRANCHES))


def test_a_convolution_without_blocks_keeps_its_order(check) -> None:
    # CHECK-NOT: linalg.transpose
    # CHECK: "qcc.quantize"(%arg0) {{.*}}"int8<group=tensor>"
    # CHECK: "qcc.quantize"(%arg0) {{.*}}"fp8_e4m3"
    # CHECK-NOT: linalg.transpose
    check(
        assigned(FormatAssignment(activations={"a": "int8<group=tensor>", "b": "fp8_e4m3"}), CONV)
    )


INT8 = "int8<group=tensor>"


def test_a_static_range_goes_with_the_activation(check) -> None:
    # CHECK: %[[Q:.*]] = "qcc.quantize"(%arg0) {range = array<f32: -1.500000e+00, 2.000000e+00>}
    # CHECK-SAME: -> !qcc.packed<tensor<2x4xf32>, "int8<group=tensor>">
    # CHECK: %[[X:.*]] = "qcc.dequantize"(%[[Q]])
    # CHECK: "qcc.linear"(%[[X]]
    # CHECK: "qcc.linear"(%[[X]]
    # CHECK-NOT: qcc.quantize
    both = {"a": INT8, "b": INT8}
    ranges = {"a": [(-1.5, 2.0)], "b": [(-1.5, 2.0)]}
    check(assigned(FormatAssignment(activations=both, ranges=ranges)))


def test_other_ranges_are_other_roundings(check) -> None:
    # CHECK: "qcc.quantize"(%arg0) {range = array<f32: -1.000000e+00, 1.000000e+00>}
    # CHECK: "qcc.quantize"(%arg0) {range = array<f32: -2.000000e+00, 2.000000e+00>}
    both = {"a": INT8, "b": INT8}
    ranges = {"a": [(-1.0, 1.0)], "b": [(-2.0, 2.0)]}
    check(assigned(FormatAssignment(activations=both, ranges=ranges)))


def test_static_and_dynamic_are_apart(check) -> None:
    # CHECK: "qcc.quantize"(%arg0) {range = array<f32: -1.000000e+00, 1.000000e+00>}
    # CHECK: "qcc.quantize"(%arg0) :
    both = {"a": INT8, "b": INT8}
    check(assigned(FormatAssignment(activations=both, ranges={"a": [(-1.0, 1.0)]})))


MATMUL = """
func.func @main(%x: tensor<1x2x3xf32>, %y: tensor<1x3x4xf32>) -> tensor<1x2x4xf32> {
  %z = "qcc.matmul"(%x, %y) {layer = "matmul.0"}
    : (tensor<1x2x3xf32>, tensor<1x3x4xf32>) -> tensor<1x2x4xf32>
  return %z : tensor<1x2x4xf32>
}"""


def test_each_operand_of_a_matmul_has_its_range(check) -> None:
    # CHECK: "qcc.quantize"(%arg0) {range = array<f32: -1.000000e+00, 1.000000e+00>}
    # CHECK: "qcc.quantize"(%arg1) {range = array<f32: 0.000000e+00, 4.000000e+00>}
    ranges = {"matmul.0": [(-1.0, 1.0), (0.0, 4.0)]}
    check(assigned(FormatAssignment(activations={"matmul.0": INT8}, ranges=ranges), MATMUL))


def test_both_operands_of_a_matmul_have_blocks_along_k(check) -> None:
    # CHECK: "qcc.quantize"(%arg0) {{.*}}tensor<1x2x3xf32>, "mxfp4">
    # CHECK: %[[T:.*]] = linalg.transpose ins(%arg1
    # CHECK-SAME: permutation = [0, 2, 1]
    # CHECK: "qcc.quantize"(%[[T]]) {{.*}}tensor<1x4x3xf32>, "mxfp4">
    # CHECK: linalg.transpose
    # CHECK: "qcc.matmul"
    check(assigned(FormatAssignment(activations={"matmul.0": "mxfp4"}), MATMUL))


def test_a_range_of_blocks_along_the_channels(check) -> None:
    """Blocks inside are scaled as the values come, the tensor by its range."""
    # CHECK: %[[T:.*]] = linalg.transpose
    # CHECK-SAME: permutation = [0, 2, 3, 1]
    # CHECK: "qcc.quantize"(%[[T]]) {range = array<f32: -1.000000e+00, 1.000000e+00>}
    # CHECK-SAME: -> !qcc.packed<tensor<?x?x8x40xf32>, "nvfp4<two_level=true>">
    # CHECK-NOT: qcc.quantize
    activations, ranges = {"a": "nvfp4<two_level=true>"}, {"a": [(-1.0, 1.0)]}
    check(assigned(FormatAssignment(activations=activations, ranges=ranges), CONV))

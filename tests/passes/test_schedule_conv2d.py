"""Convolutions to kernels: which share one, what their parameters' layouts become."""

from dataclasses import replace

import pytest

from qcc.codegen.cuda.plan import LaunchStep
from qcc.codegen.cuda.read_plan import read_function
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.tile.conv_problem import ConvProblem
from qcc.dialects.tile.conv_schedule import ConvSchedule, default_convolution
from qcc.passes.launching import Scheduling
from qcc.passes.schedule_conv2d import Chooser, schedule_conv2d

CONV = """{stride = array<i64: 2, 1>, padding = array<i64: 1, 1>, dilation = array<i64: 1, 1>,
  groups = GROUPS : i64, operandSegmentSizes = array<i32: 1, 1, 0>}"""
LAYERS = """
func.func @main(%x: tensor<?x8x9x?xE>) -> (tensor<?x16x5x?xE>, tensor<?x16x5x?xE>) {
  %a = "qcc.param"() {symbol = "a"} : () -> !qcc.packed<tensor<16x8x3x3xf32>, "W">
  %b = "qcc.param"() {symbol = "b"} : () -> !qcc.packed<tensor<16x8x3x3xf32>, "W">
  %0 = "qcc.conv2d"(%x, %a) CONV
    : (tensor<?x8x9x?xE>, !qcc.packed<tensor<16x8x3x3xf32>, "W">) -> tensor<?x16x5x?xE>
  %1 = "qcc.conv2d"(%x, %b) CONV
    : (tensor<?x8x9x?xE>, !qcc.packed<tensor<16x8x3x3xf32>, "W">) -> tensor<?x16x5x?xE>
  return %0, %1 : tensor<?x16x5x?xE>, tensor<?x16x5x?xE>
}
"""
ROUNDED = """
func.func @main(%x: tensor<2x8x9x7xf32>) -> tensor<2x16x5x7xf32> {
  %w = "qcc.param"() {symbol = "w"} : () -> !qcc.packed<tensor<16x8x3x3xf32>, "W">
  %q = "qcc.quantize"(%x) : (tensor<2x8x9x7xf32>) -> !qcc.packed<tensor<2x8x9x7xf32>, "X">
  %d = "qcc.dequantize"(%q) : (!qcc.packed<tensor<2x8x9x7xf32>, "X">) -> tensor<2x8x9x7xf32>
  %0 = "qcc.conv2d"(%d, %w) CONV
    : (tensor<2x8x9x7xf32>, !qcc.packed<tensor<16x8x3x3xf32>, "W">) -> tensor<2x16x5x7xf32>
  return %0 : tensor<2x16x5x7xf32>
}
"""


def scheduled(
    text: str, weight: str, choose: Chooser = default_convolution, **others: str
) -> ir.Module:
    text = text.replace("CONV", CONV).replace("GROUPS", "1").replace('"W"', f'"{weight}"')
    text = text.replace("xE>", f"x{others.get('element', 'f16')}>")
    module = ir.Module.parse(text.replace('"X"', f'"{others.get("images", "")}"'))
    schedule_conv2d(Scheduling(), choose)(module.operation, None)
    assert module.operation.verify()
    return module


def test_equal_layers_share_a_kernel(check):
    # CHECK: "tile.warp_kernel"
    # CHECK-NOT: "tile.warp_kernel"
    # CHECK: "qcc.param"() {layout = "mma16-taps1", symbol = "a"}
    # CHECK: "qcc.param"() {layout = "mma16-taps1", symbol = "b"}
    # CHECK: "tile.launch"{{.*}}kernel = "conv_int4_0"
    # CHECK: "tile.launch"{{.*}}kernel = "conv_int4_0"
    # CHECK-NOT: qcc.conv2d
    with make_context():
        check(str(scheduled(LAYERS, "int4")))


def test_blocks_of_a_format_stay_whole(check):
    # CHECK: layout = "mma16_pairs-whole1"
    with make_context():
        check(str(scheduled(LAYERS, "nf4")))


def test_sizes_of_the_result_follow_from_the_images():
    with make_context():
        function = read_function(scheduled(LAYERS, "int4"), "main", {})
    sizes = function.evaluated([(3, 8, 9, 7)], {})
    step = next(step for step in function.steps if isinstance(step, LaunchStep))
    numbers = [sizes[each.index] for each in step.arguments[-5:]]
    assert numbers == [3, 9, 7, 5, 7]


def test_images_lie_as_their_reader_wants(check):
    # CHECK: images = 8
    # CHECK: target_images = 1
    # CHECK: "qcc.quantize"{{.*}}layout = "pixel-blocks"
    def in_blocks(problem: ConvProblem, target: str) -> ConvSchedule:
        return replace(default_convolution(problem, target), image_blocks=True)

    text = ROUNDED.replace("2x8x9x7", "16x32x9x7").replace("16x8x3x3", "16x32x3x3")
    with make_context():
        text = text.replace("2x16x5x7", "16x16x5x7")
        check(str(scheduled(text, "int8", in_blocks, images="int8<group=tensor>")))


def test_rounded_images_are_read_as_codes(check):
    # CHECK: mma.m16n8k32.s8
    # CHECK: layout = "mma8-taps1"
    # CHECK: %[[Q:.*]] = "qcc.quantize"
    # CHECK: "tile.pointer"(%[[Q]]) {part = "codes"}
    with make_context():
        check(str(scheduled(ROUNDED, "int8", images="int8<group=tensor>")))


def test_images_with_a_scale_for_each_row_are_decoded(check):
    # CHECK: mma.m16n8k16.f16
    # CHECK: %[[D:.*]] = "qcc.dequantize"
    # CHECK: "tile.pointer"(%[[D]])
    with make_context():
        check(str(scheduled(ROUNDED, "int8", images="int8")))


def test_plain_weights_are_refused():
    text = LAYERS.replace('!qcc.packed<tensor<16x8x3x3xf32>, "W">', "tensor<16x8x3x3xf32>")
    with make_context(), pytest.raises(UnsupportedError, match="give the parameter a format"):
        scheduled(text, "int4")

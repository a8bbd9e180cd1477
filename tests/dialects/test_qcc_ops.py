"""The `qcc` dialect itself: verifiers, packed types, and the way through text."""

import numpy as np
import pytest

from qcc.dialects import qcc
from qcc.dialects.bindings import ir

PACKED = '!qcc.packed<tensor<64x32xf32>, "int4<group=32>">'

PROGRAM = f"""
func.func @main(%x: tensor<1x?x32xf32>, %i: tensor<?xi64>, %image: tensor<1x4x8x8xf32>,
    %q: tensor<1x4x?x8xf32>, %k: tensor<1x2x?x8xf32>, %p: tensor<i64>, %m: tensor<1x1x?x?xf32>) {{
  %w = "qcc.param"() {{symbol = "a.weight"}} : () -> {PACKED}
  %b = "qcc.param"() {{symbol = "a.bias"}} : () -> tensor<64xf32>
  %g = "qcc.param"() {{symbol = "norm.weight"}} : () -> tensor<32xf32>
  %f = "qcc.param"() {{symbol = "conv.weight"}} : () -> tensor<6x2x3x3xf32>
  %d = "qcc.dequantize"(%w) : ({PACKED}) -> tensor<64x32xf32>
  %c = "qcc.quantize"(%d) : (tensor<64x32xf32>) -> {PACKED}
  %s = "qcc.quantize"(%d) {{range = array<f32: -1.1, 0x7F7FFFFF>}}
    : (tensor<64x32xf32>) -> !qcc.packed<tensor<64x32xf32>, "int8<group=tensor>">
  %l = "qcc.linear"(%x, %c, %b) {{operandSegmentSizes = array<i32: 1, 1, 1>}}
    : (tensor<1x?x32xf32>, {PACKED}, tensor<64xf32>) -> tensor<1x?x64xf32>
  %t = "qcc.matmul"(%x, %x) : (tensor<1x?x32xf32>, tensor<1x?x32xf32>) -> tensor<1x?x32xf32>
  %v = "qcc.conv2d"(%image, %f) {{stride = array<i64: 2, 2>, padding = array<i64: 1, 1>,
      dilation = array<i64: 1, 1>, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0>}}
    : (tensor<1x4x8x8xf32>, tensor<6x2x3x3xf32>) -> tensor<1x6x4x4xf32>
  %a = "qcc.attention"(%q, %k, %k, %m, %p) {{scale = 0.25 : f64, causal = true, cache = "layer.0",
      operandSegmentSizes = array<i32: 1, 1, 1, 1, 1>}}
    : (tensor<1x4x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x1x?x?xf32>,
       tensor<i64>) -> tensor<1x4x?x8xf32>
  %n = "qcc.layer_norm"(%x, %g) {{epsilon = 1.0e-5 : f64, axes = 1 : i64,
      operandSegmentSizes = array<i32: 1, 1, 0>}}
    : (tensor<1x?x32xf32>, tensor<32xf32>) -> tensor<1x?x32xf32>
  %r = "qcc.rms_norm"(%x) {{epsilon = 1.0e-5 : f64, axes = 1 : i64,
      operandSegmentSizes = array<i32: 1, 0>}} : (tensor<1x?x32xf32>) -> tensor<1x?x32xf32>
  %e = "qcc.embedding"(%w, %i) : ({PACKED}, tensor<?xi64>) -> tensor<?x32xf32>
  return
}}"""


def operations(module: ir.Module) -> list[ir.OpView]:
    function = module.body.operations[0]
    return list(function.regions[0].blocks[0].operations)


def test_a_program_of_every_op_survives_text(context):
    with context, ir.Location.unknown():
        module = ir.Module.parse(PROGRAM)
        text = str(module)
        assert module.operation.verify()
        assert str(ir.Module.parse(text)) == text


def test_every_op_has_its_class(context):
    with context, ir.Location.unknown():
        module = ir.Module.parse(PROGRAM)
        classes = {type(op) for op in operations(module)[:-1]}
    assert classes == {getattr(qcc, name) for name in qcc.__all__ if name.endswith("Op")}


def test_optional_operands_by_name(context):
    with context, ir.Location.unknown():
        module = ir.Module.parse(PROGRAM)
        by_name = {op.operation.name: op for op in operations(module)}
    assert by_name["qcc.linear"].bias is not None
    assert by_name["qcc.conv2d"].bias is None
    assert by_name["qcc.layer_norm"].bias is None
    assert by_name["qcc.rms_norm"].weight is None
    assert str(by_name["qcc.attention"].past.type) == "tensor<i64>"


def test_packed_types_from_python(context):
    with context, ir.Location.unknown():
        tensor = ir.RankedTensorType.get([64, 32], ir.F32Type.get())
        type_ = qcc.packed(tensor, "int4<group=32>")
        assert str(type_) == PACKED
        assert ir.Type.parse(PACKED) == type_
        assert qcc.is_packed(type_)
        assert not qcc.is_packed(tensor)
        assert qcc.logical_type(type_) == tensor
        assert qcc.logical_type(tensor) == tensor
        assert qcc.format_spelling(type_) == "int4<group=32>"
        assert qcc.format_spelling(tensor) is None
        assert qcc.packed(tensor, "mxfp4") != type_


def test_the_range_of_a_static_quantization(context):
    with context, ir.Location.unknown():
        operations_ = operations(ir.Module.parse(PROGRAM))
    ranges = [qcc.tensor_range_of(op) for op in operations_ if isinstance(op, qcc.QuantizeOp)]
    assert ranges == [None, (float(np.float32(-1.1)), float(np.finfo(np.float32).max))]


def static(spelling: str, attributes: str) -> str:
    packed = f'!qcc.packed<tensor<4x4xf32>, "{spelling}">'
    return f'"qcc.quantize"(%x) {{{attributes}}} : (tensor<4x4xf32>) -> {packed}'


REFUSED = {
    "a range for scales by token": (
        static("int8", "range = array<f32: -1.0, 1.0>"),
        "int8 has no scale that the range of a tensor decides",
    ),
    "a range the wrong way round": (
        static("int8<group=tensor>", "range = array<f32: 1.0, -1.0>"),
        "range: 1.0…-1.0 is no range of finite float32 values",
    ),
    "an infinite range": (
        static("nvfp4<two_level=true>", "range = array<f32: 0.0, 0x7F800000>"),
        "range: 0.0…inf is no range of finite float32 values",
    ),
    "half a range": (
        static("int8<group=tensor>", "range = array<f32: 1.0>"),
        "it must be array<f32: least, most>",
    ),
    "a range of integers": (
        static("int8<group=tensor>", "range = array<i32: 0, 1>"),
        "it must be array<f32: least, most>",
    ),
    "a misspelt range": (
        static("int8<group=tensor>", "rnage = array<f32: 0.0, 1.0>"),
        "qcc.quantize has no attribute 'rnage'; it may have 'range'",
    ),
    "unknown format": (
        '"qcc.param"() {symbol = "w"} : () -> !qcc.packed<tensor<4x4xf32>, "int4000">',
        "`qcc list formats` names the known ones",
    ),
    "unknown layout": (
        '"qcc.param"() {symbol = "w", layout = "mma9"} : () -> '
        '!qcc.packed<tensor<4x4xf32>, "int4">',
        "qcc.param: there is no layout 'mma9', only panel16, panel16-taps, mma16",
    ),
    "layout of plain values": (
        '"qcc.param"() {symbol = "w", layout = "panel16"} : () -> tensor<4x4xf32>',
        "'panel16' is a layout of packed tensors, not of tensor<4x4xf32>",
    ),
    "layout of images for a matrix": (
        '"qcc.param"() {symbol = "w", layout = "panel16-taps"} : () -> '
        '!qcc.packed<tensor<4x4xf32>, "int8">',
        "'panel16-taps' is a layout of tensors of rank 4, not 2",
    ),
    "quantize to a plain tensor": (
        '"qcc.quantize"(%x) : (tensor<4x4xf32>) -> tensor<4x4xf32>',
        "qcc.quantize must produce a !qcc.packed value",
    ),
    "quantize to another shape": (
        '"qcc.quantize"(%x) : (tensor<4x4xf32>) -> !qcc.packed<tensor<4x8xf32>, "int4">',
        "quantized shape tensor<4x8xf32> differs from tensor<4x4xf32>",
    ),
    "dequantize of a plain tensor": (
        '"qcc.dequantize"(%x) : (tensor<4x4xf32>) -> tensor<4x4xf32>',
        "qcc.dequantize needs a !qcc.packed operand",
    ),
    "dequantize to another shape": (
        '"qcc.dequantize"(%p) : (!qcc.packed<tensor<4x4xf32>, "int4">) -> tensor<8x4xf32>',
        "decoded shape tensor<4x4xf32> differs from tensor<8x4xf32>",
    ),
    "linear without a common axis": (
        '"qcc.linear"(%x, %w) {operandSegmentSizes = array<i32: 1, 1, 0>} : '
        "(tensor<4x4xf32>, tensor<2x5xf32>) -> tensor<4x2xf32>",
        "do not share K; weight must be [N, K] and the input's last axis K",
    ),
    "matmul of matrices": (
        '"qcc.matmul"(%x, %x) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>',
        "qcc.matmul takes two rank-3 tensors",
    ),
    "conv2d of matrices": (
        '"qcc.conv2d"(%x, %x) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0>, '
        "dilation = array<i64: 1, 1>, groups = 1 : i64, operandSegmentSizes = "
        "array<i32: 1, 1, 0>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>",
        "qcc.conv2d takes rank-4 tensors",
    ),
    "conv2d of other channels": (
        '"qcc.conv2d"(%i, %f) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0>, '
        "dilation = array<i64: 1, 1>, groups = 2 : i64, operandSegmentSizes = "
        "array<i32: 1, 1, 0>} : (tensor<1x3x4x4xf32>, tensor<2x2x1x1xf32>) -> tensor<1x2x4x4xf32>",
        "3 input channels, but the weight expects 4",
    ),
    "attention of unequal heads": (
        '"qcc.attention"(%q, %k, %k) {scale = 1.0 : f64, causal = false, cache = "", '
        "operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>} : (tensor<1x4x2x8xf32>, "
        "tensor<1x3x2x8xf32>, tensor<1x3x2x8xf32>) -> tensor<1x4x2x8xf32>",
        "query heads a multiple of the key heads",
    ),
}


@pytest.mark.parametrize(("operation", "message"), REFUSED.values(), ids=REFUSED)
def test_verifiers_say_what_is_wrong(context, operation, message):
    result = operation.rsplit("-> ", 1)[1]
    text = f"""
    func.func @main(%x: tensor<4x4xf32>, %w: tensor<2x5xf32>, %i: tensor<1x3x4x4xf32>,
        %f: tensor<2x2x1x1xf32>, %q: tensor<1x4x2x8xf32>, %k: tensor<1x3x2x8xf32>,
        %p: !qcc.packed<tensor<4x4xf32>, "int4">) -> {result} {{
      %r = {operation}
      return %r : {result}
    }}"""
    with context, ir.Location.unknown(), pytest.raises(ir.MLIRError) as caught:
        ir.Module.parse(text)
    assert message in str(caught.value)
    assert '"-":5:12' in str(caught.value)  # the line of the op

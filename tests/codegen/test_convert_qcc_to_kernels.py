"""What the main function is left with once kernels stand for the qcc ops."""

from __future__ import annotations

from qcc.compiler.opt import run_pipeline

X, Y = "tensor<?x16xf32>", "tensor<?x8xf32>"
PACKED = '!qcc.packed<tensor<8x16xf32>, "int4">'


def converted(body: str, result: str = Y) -> str:
    text = f"func.func @main(%x: {X}) -> {result} {{ {body} }}"
    return run_pipeline(text, "convert-qcc-to-kernels")


def linear(weight: str, type_: str, x: str = "%x") -> str:
    return (
        f'"qcc.linear"({x}, {weight}) {{operandSegmentSizes = array<i32: 1, 1, 0>}}'
        f" : ({X}, {type_}) -> {Y}"
    )


def test_a_layer_becomes_a_launch_on_addresses(check) -> None:
    # CHECK: func.func private @[[K:kernel_[0-9]+]].body(%{{.*}}: !llvm.ptr, %{{.*}}: i64,
    # CHECK: func.func private @[[K]](
    # CHECK: call {{.*}}@qcc_parallel_for
    # CHECK: func.func @main
    # CHECK: %[[OUT:.*]] = memref.alloc({{.*}}) : memref<?x8xf32>
    # CHECK: bufferization.to_buffer %{{.*}} read_only
    # CHECK: call @[[K]](
    # CHECK-NOT: qcc.linear
    # CHECK-NOT: qcc.param
    check(
        converted(f"""
      %w = "qcc.param"() {{symbol = "w"}} : () -> {PACKED}
      %y = {linear("%w", PACKED)}
      return %y : {Y}""")
    )


def test_equal_layers_share_a_kernel(check) -> None:
    # CHECK: @kernel_0.body
    # CHECK-NOT: @kernel_1.body
    # CHECK: func.func @main
    # CHECK: call @[[K:kernel_0]](
    # CHECK: call @[[K]](
    # CHECK: arith.addf
    check(
        converted(f"""
      %v = "qcc.param"() {{symbol = "v"}} : () -> {PACKED}
      %w = "qcc.param"() {{symbol = "w"}} : () -> {PACKED}
      %a = {linear("%v", PACKED)}
      %b = {linear("%w", PACKED)}
      %y = arith.addf %a, %b : {Y}
      return %y : {Y}""")
    )


def test_what_reads_a_plain_parameter_gets_a_view_of_its_bytes(check) -> None:
    # CHECK: func.func @main
    # CHECK: llvm.mlir.addressof @qcc_parameters
    # CHECK: %[[B:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<8x16xf32>
    # CHECK: %[[T:.*]] = bufferization.to_tensor %[[B]] restrict
    # CHECK: math.absf %[[T]]
    # CHECK-NOT: qcc.param
    check(
        converted(
            """
      %w = "qcc.param"() {symbol = "w"} : () -> tensor<8x16xf32>
      %y = math.absf %w : tensor<8x16xf32>
      return %y : tensor<8x16xf32>""",
            "tensor<8x16xf32>",
        )
    )

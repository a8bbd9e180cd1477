"""Raising torch ops: what becomes a qcc op, and what is left alone."""

from __future__ import annotations

from qcc.compiler.opt import run_pipeline

T = "!torch.vtensor"


def raised(arguments: str, body: str) -> str:
    text = f"""
      func.func @main({arguments}) {{
        %none = torch.constant.none
        %int1 = torch.constant.int 1
        {body}
        return
      }}"""
    return run_pipeline(text, "raise-torch")


LINEAR = f"""
  %y = torch.aten.linear %x, %w, %none
    : {T}<[2,4],f32>, {T}<[3,4],f32>, !torch.none -> {T}<[2,3],f32>"""


def test_linear(check) -> None:
    # CHECK-DAG: %[[X:.*]] = torch_c.to_builtin_tensor %{{.*}} : !torch.vtensor<[2,4],f32>
    # CHECK-DAG: %[[W:.*]] = torch_c.to_builtin_tensor %{{.*}} : !torch.vtensor<[3,4],f32>
    # CHECK: "qcc.linear"(%[[X]], %[[W]])
    # CHECK-NOT: torch.aten.linear
    check(raised(f"%x: {T}<[2,4],f32>, %w: {T}<[3,4],f32>", LINEAR))


def test_linear_in_half_precision_computes_in_fp32_and_rounds_once(check) -> None:
    # CHECK: %[[X:.*]] = torch.prims.convert_element_type %arg0, {{.*}} -> !torch.vtensor<[2,4],f32>
    # CHECK: %[[A:.*]] = torch_c.to_builtin_tensor %[[X]]
    # CHECK: %[[Y:.*]] = "qcc.linear"(%[[A]], {{.*}} -> tensor<2x3xf32>
    # CHECK: %[[B:.*]] = torch_c.from_builtin_tensor %[[Y]]
    # CHECK: torch.prims.convert_element_type %[[B]], {{.*}} -> !torch.vtensor<[2,3],f16>
    # CHECK-NOT: torch.aten.linear
    half = LINEAR.replace("f32", "f16")
    check(raised(f"%x: {T}<[2,4],f16>, %w: {T}<[3,4],f16>", half))


PARAMETER = f"""
  %p = "qcc.param"() {{symbol = "w"}} : () -> tensor<3x4xOWN>
  %w = torch_c.from_builtin_tensor %p : tensor<3x4xOWN> -> {T}<[3,4],OWN>"""


def test_parameter_in_half_precision_is_read_as_it_is_stored(check) -> None:
    # CHECK: %[[W:.*]] = "qcc.param"() {symbol = "w"} : () -> !qcc.packed<tensor<3x4xf32>, "bf16">
    # CHECK: "qcc.linear"(%{{.*}}, %[[W]])
    body = (PARAMETER + LINEAR).replace("OWN", "bf16").replace("f32", "bf16")
    check(raised(f"%x: {T}<[2,4],bf16>", body))


def test_parameter_that_autocast_rounds_is_stored_rounded(check) -> None:
    # CHECK: %[[W:.*]] = "qcc.param"() {symbol = "w"} : () -> !qcc.packed<tensor<3x4xf32>, "fp16">
    # CHECK: "qcc.linear"(%{{.*}}, %[[W]])
    rounded = f"""
      %int5 = torch.constant.int 5
      %half = torch.prims.convert_element_type %w, %int5
        : {T}<[3,4],f32>, !torch.int -> {T}<[3,4],f16>"""
    linear = LINEAR.replace("f32", "f16").replace("%w", "%half")
    check(raised(f"%x: {T}<[2,4],f16>", PARAMETER.replace("OWN", "f32") + rounded + linear))


def test_double_precision_is_raised_only_where_asked(check) -> None:
    # CHECK-NOT: qcc.linear
    # CHECK: torch.aten.linear
    double = LINEAR.replace("f32", "f64")
    check(raised(f"%x: {T}<[2,4],f64>, %w: {T}<[3,4],f64>", double))


def test_matmul_with_a_transpose_is_a_linear(check) -> None:
    # CHECK: "qcc.linear"
    # CHECK-NOT: torch.aten.matmul
    body = f"""
      %t = torch.aten.numpy_T %w : {T}<[3,4],f32> -> {T}<[4,3],f32>
      %y = torch.aten.matmul %x, %t : {T}<[5,2,4],f32>, {T}<[4,3],f32> -> {T}<[5,2,3],f32>"""
    check(raised(f"%x: {T}<[5,2,4],f32>, %w: {T}<[3,4],f32>", body))


def test_product_with_a_transpose_is_a_linear(check) -> None:
    # CHECK: "qcc.linear"
    # CHECK-NOT: torch.aten.mm
    body = f"""
      %t = torch.aten.t %w : {T}<[3,4],f32> -> {T}<[4,3],f32>
      %y = torch.aten.mm %x, %t : {T}<[2,4],f32>, {T}<[4,3],f32> -> {T}<[2,3],f32>"""
    check(raised(f"%x: {T}<[2,4],f32>, %w: {T}<[3,4],f32>", body))


def test_product_with_a_plain_matrix_is_not_a_linear(check) -> None:
    # CHECK: torch.aten.mm
    # CHECK-NOT: qcc.linear
    body = f"%y = torch.aten.mm %x, %t : {T}<[2,4],f32>, {T}<[4,3],f32> -> {T}<[2,3],f32>"
    check(raised(f"%x: {T}<[2,4],f32>, %t: {T}<[4,3],f32>", body))


GELU = f"""
  %kind = torch.constant.str "KIND"
  %y = torch.aten.gelu %x, %kind : {T}<[2,4],f32>, !torch.str -> {T}<[2,4],f32>"""


def test_tanh_gelu_is_spelled_with_its_own_constant(check) -> None:
    # CHECK-NOT: torch.aten.gelu
    # CHECK: torch.constant.float 0.79788456080286{{[0-9]*}}
    # CHECK: torch.aten.tanh
    # CHECK-NOT: torch.aten.gelu
    check(raised(f"%x: {T}<[2,4],f32>", GELU.replace("KIND", "tanh")))


def test_exact_gelu_is_left_to_torch_mlir(check) -> None:
    # CHECK: torch.aten.gelu
    # CHECK-NOT: torch.aten.tanh
    check(raised(f"%x: {T}<[2,4],f32>", GELU.replace("KIND", "none")))


def test_lowering_keeps_qcc_ops_and_leaves_no_torch(check) -> None:
    # CHECK: func.func @main(%[[X:.*]]: tensor<2x4xf32>, %[[W:.*]]: tensor<3x4xf32>)
    # CHECK: %[[Y:.*]] = "qcc.linear"(%[[X]], %[[W]])
    # CHECK: linalg.generic
    # CHECK-NOT: torch
    # CHECK: return
    text = f"""
      func.func @main(%x: {T}<[2,4],f32>, %w: {T}<[3,4],f32>) -> {T}<[2,3],f32> {{
        %none = torch.constant.none
        {LINEAR}
        %z = torch.aten.relu %y : {T}<[2,3],f32> -> {T}<[2,3],f32>
        return %z : {T}<[2,3],f32>
      }}"""
    check(run_pipeline(text, "raise-torch,lower-torch"))

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
    # CHECK: %[[X:.*]] = torch_c.to_builtin_tensor %{{.*}} : !torch.vtensor<[2,4],f32>
    # CHECK: %[[W:.*]] = torch_c.to_builtin_tensor %{{.*}} : !torch.vtensor<[3,4],f32>
    # CHECK: "qcc.linear"(%[[X]], %[[W]])
    # CHECK-NOT: torch.aten.linear
    check(raised(f"%x: {T}<[2,4],f32>, %w: {T}<[3,4],f32>", LINEAR))


def test_linear_of_another_type_is_left_alone(check) -> None:
    # CHECK-NOT: qcc.linear
    # CHECK: torch.aten.linear
    half = LINEAR.replace("f32", "f16")
    check(raised(f"%x: {T}<[2,4],f16>, %w: {T}<[3,4],f16>", half))


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

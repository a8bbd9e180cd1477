"""Naming layers: after their weight, or by counting."""

from __future__ import annotations

from qcc.compiler.opt import run_pipeline

LINEAR = """
  %w{i} = "qcc.param"() {{symbol = "{symbol}"}} : () -> tensor<3x4xf32>
  %y{i} = "qcc.linear"(%x, %w{i}) {{operandSegmentSizes = array<i32: 1, 1, 0>}}
    : (tensor<2x4xf32>, tensor<3x4xf32>) -> tensor<2x3xf32>
"""


def named(body: str) -> str:
    text = f"func.func @main(%x: tensor<2x4xf32>, %b: tensor<2x2x2xf32>) {{{body} return }}"
    return run_pipeline(text, "name-layers")


def linear(index: int, symbol: str) -> str:
    return LINEAR.format(i=index, symbol=symbol)


def test_a_layer_is_named_after_its_weight(check) -> None:
    # CHECK: qcc.linear
    # CHECK-SAME: layer = "blocks.0.q"
    check(named(linear(0, "blocks.0.q.weight")))


def test_a_weight_of_another_name_keeps_it(check) -> None:
    # CHECK: qcc.linear
    # CHECK-SAME: layer = "weight_ih_l0"
    check(named(linear(0, "weight_ih_l0")))


def test_a_weight_used_twice_makes_two_names(check) -> None:
    # CHECK: layer = "q"
    # CHECK: layer = "q@2"
    # CHECK: layer = "q@3"
    check(named(linear(0, "q.weight") + linear(1, "q.weight") + linear(2, "q.weight")))


def test_a_computed_weight_is_counted(check) -> None:
    # CHECK: qcc.linear
    # CHECK-SAME: layer = "linear.0"
    # CHECK: qcc.linear
    # CHECK-SAME: layer = "linear.1"
    call = """"qcc.linear"(%x, %x) {operandSegmentSizes = array<i32: 1, 1, 0>}
      : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x2xf32>\n"""
    check(named(f"\n{call}{call}"))


def test_matmul_and_attention_count_apart(check) -> None:
    # CHECK: qcc.matmul
    # CHECK-SAME: layer = "matmul.0"
    # CHECK: qcc.attention
    # CHECK-SAME: layer = "attention.0"
    # CHECK: qcc.matmul
    # CHECK-SAME: layer = "matmul.1"
    cube = "tensor<2x2x2xf32>"
    matmul = f'"qcc.matmul"(%b, %b) : ({cube}, {cube}) -> {cube}\n'
    heads = "tensor<1x2x2x2xf32>"
    attention = f"""
      %q = tensor.expand_shape %b [[0, 1], [2], [3]] output_shape [1, 2, 2, 2] : {cube} into {heads}
      %a = "qcc.attention"(%q, %q, %q) {{scale = 1.0 : f64, causal = false, cache = "",
        operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>}} : ({heads}, {heads}, {heads}) -> {heads}
    """
    check(named(f"\n{matmul}{attention}{matmul}"))


def test_naming_again_changes_nothing() -> None:
    once = named(linear(0, "q.weight") + linear(1, "q.weight"))
    assert run_pipeline(once, "name-layers") == once

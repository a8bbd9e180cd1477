"""Steps that give the rows of results from a token on."""

from __future__ import annotations

import pytest

from qcc.codegen.cpu.limit_results import limit_results
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context

X, Y = "tensor<?x?x4xf32>", "tensor<?x?x8xf32>"


def step(layer: str, result: str = "y", name: str = "step") -> str:
    return f"""
    func.func @{name}(%x: {X}, %past: tensor<i64>) -> {Y} {{
      %w = "qcc.param"() {{symbol = "w"}} : () -> tensor<8x4xf32>
      {layer}
      return %{result} : {Y}
    }}"""


def linear(source: str) -> str:
    return (
        f'%y = "qcc.linear"(%{source}, %w) {{operandSegmentSizes = array<i32: 1, 1, 0>}} '
        f": ({X}, tensor<8x4xf32>) -> {Y}"
    )


def rounded(spelling: str) -> str:
    packed = f'!qcc.packed<{X}, "{spelling}">'
    return f"""%q = "qcc.quantize"(%x) : ({X}) -> {packed}
      %d = "qcc.dequantize"(%q) : ({packed}) -> {X}
      {linear("d")}"""


def limited(text: str) -> str:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        limit_results(module)
        assert module.operation.verify()
        return str(module)


def test_the_last_layer_reads_its_rows_from_a_token_on(check) -> None:
    # CHECK: func.func @step(%arg0: {{.*}}, %arg1: {{.*}}, %[[FIRST:.*]]: tensor<i64>)
    # CHECK: %[[T:.*]] = tensor.extract %[[FIRST]][]
    # CHECK: %[[START:.*]] = arith.index_cast %[[T]]
    # CHECK: %[[COUNT:.*]] = arith.subi %{{.*}}, %[[START]]
    # CHECK: %[[ROWS:.*]] = tensor.extract_slice %arg0[0, %[[START]], 0] [%{{.*}}, %[[COUNT]], 4]
    # CHECK: %[[Y:.*]] = "qcc.linear"(%[[ROWS]]
    # CHECK: return %[[Y]]
    check(limited(step(linear("x"))))


def test_a_rounding_by_rows_follows_the_slice(check) -> None:
    # CHECK: %[[ROWS:.*]] = tensor.extract_slice
    # CHECK: %[[Q:.*]] = "qcc.quantize"(%[[ROWS]])
    # CHECK: %[[D:.*]] = "qcc.dequantize"(%[[Q]])
    # CHECK: "qcc.linear"(%[[D]]
    check(limited(step(rounded("int8"))))


@pytest.mark.parametrize("spelling", ["int8<group=tensor>", "nvfp4<two_level=true>"])
def test_a_scale_of_the_whole_tensor_needs_all_rows(spelling: str) -> None:
    text = limited(step(rounded(spelling)))
    assert text.count("tensor<i64>") == 2
    assert "extract_slice" not in text


def test_what_others_read_stays_whole() -> None:
    squared = f"{linear('x')}\n %z = arith.mulf %y, %y : {Y}"
    assert "extract_slice" not in limited(step(squared, "z"))


def test_other_functions_keep_their_arguments() -> None:
    text = limited(step(linear("x"), name="main"))
    assert text.count("tensor<i64>") == 1
    assert "extract_slice" not in text

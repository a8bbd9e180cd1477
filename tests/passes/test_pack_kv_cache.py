"""Roundings of keys and values become formats of the cache."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.interpreter import interpret
from qcc.passes.pack_kv_cache import pack_kv_cache

T = "tensor<2x2x?x8xf32>"
PAST = "tensor<i64>"


def rounded(name: str, source: str, spelling: str) -> str:
    packed = f'!qcc.packed<{T}, "{spelling}">'
    return f"""
      %{name}_codes = "qcc.quantize"(%{source}) : ({T}) -> {packed}
      %{name} = "qcc.dequantize"(%{name}_codes) : ({packed}) -> {T}"""


def step(body: str, key: str, value: str, cached: bool = True, result: str = "y") -> str:
    past = (", %past", f", {PAST}", 1) if cached else ("", "", 0)
    return f"""
    func.func @step(%q: {T}, %k: {T}, %v: {T}, %past: {PAST}) -> {T} {{{body}
      %y = "qcc.attention"(%q, %{key}, %{value}{past[0]}) {{scale = 0.4 : f64, causal = true,
        cache = "cache.0", operandSegmentSizes = array<i32: 1, 1, 1, 0, {past[2]}>}}
        : ({T}, {T}, {T}{past[1]}) -> {T}
      return %{result} : {T}
    }}"""


def packed(text: str) -> str:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        pack_kv_cache(module.operation)
        assert module.operation.verify()
        return str(module)


def test_roundings_become_formats_of_the_cache(check) -> None:
    # CHECK-NOT:  qcc.quantize
    # CHECK-NOT:  qcc.dequantize
    # CHECK:      "qcc.attention"(%arg0, %arg1, %arg2, %arg3)
    # CHECK-SAME: key_format = "int8"
    # CHECK-SAME: value_format = "mxfp4"
    check(packed(step(rounded("a", "k", "int8") + rounded("b", "v", "mxfp4"), "a", "b")))


def test_one_side_alone(check) -> None:
    # CHECK-NOT:  qcc.quantize
    # CHECK:      "qcc.attention"(%arg0, %arg1, %arg2, %arg3)
    # CHECK-NOT:  key_format
    # CHECK-SAME: value_format = "nf4<group=8>"
    check(packed(step(rounded("b", "v", "nf4<group=8>"), "k", "b")))


def test_a_rounding_that_others_read_stays_for_them(check) -> None:
    # CHECK:      %[[CODES:.*]] = "qcc.quantize"(%arg1)
    # CHECK:      %[[ROUNDED:.*]] = "qcc.dequantize"(%[[CODES]])
    # CHECK:      "qcc.attention"(%arg0, %arg1, %arg1, %arg3)
    # CHECK-SAME: key_format = "int4"
    # CHECK-SAME: value_format = "int4"
    # CHECK:      return %[[ROUNDED]]
    check(packed(step(rounded("a", "k", "int4"), "a", "a", result="a")))


@pytest.mark.parametrize("spelling", ["int8<group=tensor>", "nvfp4<two_level=true>", "nestedfp16"])
def test_formats_that_cannot_be_appended_to_round_as_before(check, spelling: str) -> None:
    # CHECK: %[[CODES:.*]] = "qcc.quantize"(%arg1)
    # CHECK: %[[ROUNDED:.*]] = "qcc.dequantize"(%[[CODES]])
    # CHECK: "qcc.attention"(%arg0, %[[ROUNDED]], %arg2, %arg3)
    # CHECK-NOT: key_format
    check(packed(step(rounded("a", "k", spelling), "a", "v")))


def test_attention_without_a_cache_is_left_alone(check) -> None:
    # CHECK: %[[ROUNDED:.*]] = "qcc.dequantize"
    # CHECK: "qcc.attention"(%arg0, %[[ROUNDED]], %arg2)
    # CHECK-NOT: key_format
    check(packed(step(rounded("a", "k", "int8"), "a", "v", cached=False)))


@pytest.mark.parametrize("spelling", ["int3", "amxfp4", "uint5<group=4,symmetric=false>"])
def test_packing_changes_no_value(spelling: str) -> None:
    """Executed before and after, in three calls that share a cache."""
    text = step(rounded("a", "k", spelling) + rounded("b", "v", "fp8_e5m2"), "a", "b")
    random = np.random.default_rng(0)
    calls = [random.standard_normal((3, 2, 2, length, 8)).astype(np.float32) for length in (3, 1)]
    results = []
    for program in (text, packed(text)):
        with make_context(), ir.Location.unknown():
            module, caches, past = ir.Module.parse(program), {}, 0
            for given in calls:
                inputs = [*given, np.array(past)]
                results.append(interpret(module, inputs, {}.__getitem__, "step", caches)[0])
                past += given.shape[3]
    for before, after in zip(results[:2], results[2:], strict=True):
        np.testing.assert_array_equal(before, after)

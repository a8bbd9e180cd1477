"""Keys brought to one range by channel: the same attention, but for what formats round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import format as make_format
from qcc.dialects.interpreter import interpret
from qcc.dialects.qcc.reference import attention
from qcc.passes.assign_formats import FormatAssignment, assign_formats
from qcc.passes.key_channels import KeyChannels
from qcc.passes.pack_kv_cache import pack_kv_cache

Q, K = "tensor<2x4x?x8xf32>", "tensor<2x2x?x8xf32>"
TEXT = f"""
    func.func @step(%q: {Q}, %k: {K}, %v: {K}, %past: tensor<i64>) -> {Q} {{
      %y = "qcc.attention"(%q, %k, %v, %past) {{scale = 0.4 : f64, causal = true,
        cache = "cache.0", layer = "attention.0",
        operandSegmentSizes = array<i32: 1, 1, 1, 0, 1>}}
        : ({Q}, {K}, {K}, tensor<i64>) -> {Q}
      return %y : {Q}
    }}"""
RNG = np.random.default_rng(3)
CHANNELS = KeyChannels(
    RNG.normal(size=(2, 8)).astype(np.float32),
    np.exp2(RNG.uniform(-4, 1, (2, 8))).astype(np.float32),
)


def operands(length: int) -> list[np.ndarray]:
    query = RNG.normal(size=(2, 4, length, 8)).astype(np.float32)
    key, value = RNG.normal(size=(2, 2, 2, length, 8)).astype(np.float32)
    spread = key * CHANNELS.step[:, None] * 5 + CHANNELS.middle[:, None]
    return [query, spread.astype(np.float32), value]


def assigned(module: ir.Module, keys: dict[str, str]) -> ir.Module:
    channels = {"attention.0": CHANNELS}
    assign_formats(FormatAssignment(keys=keys, key_channels=channels))(module.operation, None)
    pack_kv_cache(module.operation)
    assert module.operation.verify()
    return module


def no_parameters(_: str) -> np.ndarray:
    return np.zeros(0)


def run(module: ir.Module, given: list[np.ndarray], lengths: tuple[int, ...]) -> np.ndarray:
    caches: dict[str, Any] = {}
    pieces, past = [], 0
    for length in lengths:
        part = [each[:, :, past : past + length] for each in given]
        [piece] = interpret(module, [*part, np.array(past)], no_parameters, "step", caches=caches)
        pieces.append(piece)
        past += length
    return np.concatenate(pieces, 2)


@pytest.mark.parametrize("lengths", [(9,), (4, 1, 4)])
def test_without_a_format_nothing_changes(lengths: tuple[int, ...]) -> None:
    given = operands(9)
    with make_context(), ir.Location.unknown():
        found = run(assigned(ir.Module.parse(TEXT), {}), given, lengths)
    wanted = attention(*given, scale=0.4, causal=True)
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("lengths", [(9,), (4, 1, 4)])
def test_keys_are_rounded_in_steps_of_their_channel(lengths: tuple[int, ...]) -> None:
    """The cache holds whole numbers of steps from the middle, whatever the calls are."""
    given = operands(9)
    with make_context(), ir.Location.unknown():
        module = assigned(ir.Module.parse(TEXT), {"attention.0": "int4<group=none>"})
        assert 'key_format = "int4<group=none>"' in str(module)
        found = run(module, given, lengths)
    query, key, value = (each.astype(np.float64) for each in given)
    middle, step = CHANNELS.middle[:, None], CHANNELS.step[:, None]
    steps = np.clip(np.rint((key - middle) / step), -7, 7)
    assert 5 < abs(steps).max() <= 7
    wanted = attention(query, steps * step + middle, value, scale=0.4, causal=True)
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_integers_without_a_scale_are_their_codes() -> None:
    fmt = make_format("int4", group="none")
    values = np.array([[-9, -7, -0.5, 0.5, 1.5, 6.6, 8, 100]], np.float32)
    assert set(fmt.encode_rows(values)) == {"codes"}
    np.testing.assert_array_equal(fmt.quantize(values).dequantize(), [[-7, -7, 0, 0, 2, 7, 7, 7]])

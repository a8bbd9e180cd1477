"""A decoder whose KV cache is kept in the formats of the recipe, from the command line on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import qcc
from qcc.compiler.artifact import Artifact
from qcc.compiler.cli import main
from qcc.compiler.running import KeyValueCaches
from qcc.models import FAMILIES

# Sums of integers are exact: how many tokens a call has changes no bit.
RECIPE = """
[default]
weights = "int8"
activations = "int8"
calibration = "dynamic"
kv = {k = "int4", v = "mxfp8_e4m3"}
[[rule]]
match = "attention.1"
kv = {v = "none"}
[[rule]]
match = "lm_head"
weights = "int8"
activations = "int8"
calibration = "dynamic"
"""
KEY_HEADS, DEPTH = 2, 16
INT4, MXFP8, FP32 = 8 + 4, 16 + 1, 4 * 16  # bytes of a row


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kv")
    sample = FAMILIES["llama"]()
    exported = torch.export.export(
        sample.module, sample.inputs, dynamic_shapes=sample.dynamic_shapes
    )
    torch.export.save(exported, folder / "llama.pt2")
    (folder / "kv.toml").write_text(RECIPE)
    out = folder / "llama.qcc"
    argv = ["compile", str(folder / "llama.pt2"), "--recipe", str(folder / "kv.toml")]
    assert main([*argv, "-o", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def module(artifact: Path) -> qcc.Module:
    return qcc.load(artifact)


def tokens(batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, 60, (batch, length))


@pytest.mark.parametrize("lengths", [(1,) * 5, (7, 1, 1), (3, 4, 2)])
def test_steps_are_the_whole_bit_for_bit(module: qcc.Module, lengths: tuple[int, ...]) -> None:
    ids = tokens(3, sum(lengths))
    np.testing.assert_array_equal(in_steps(module, ids, lengths), module(ids))


def in_steps(module: qcc.Module, ids: np.ndarray, lengths: tuple[int, ...]) -> np.ndarray:
    caches = KeyValueCaches(module._running.code, len(ids))
    cuts = np.cumsum(lengths)[:-1]
    pieces = [module._running.step(part, caches)[0] for part in np.split(ids, cuts, 1)]
    return np.concatenate(pieces, 1)


def test_steps_of_float_layers_are_the_whole_up_to_rounding() -> None:
    """
    Sums of fp32 are added in another order for one token than for many.

    That moves what is encoded by less than a code, and no code in this model.
    """
    sample = FAMILIES["llama"]()
    recipe = {"default": {"weights": "int8", "kv": "int8"}}
    module = qcc.compile(
        sample.module, sample.inputs, dynamic_shapes=sample.dynamic_shapes, recipe=recipe
    )
    ids = tokens(3, 14)
    whole, steps = module(ids), in_steps(module, ids, (7, 1, 1, 2, 1, 1, 1))
    np.testing.assert_allclose(steps, whole, atol=1e-4 * np.abs(whole).max())


def test_the_last_row_alone_is_that_of_all(module: qcc.Module) -> None:
    ids = tokens(3, 7)
    running = module._running
    (last,) = running.step(ids, KeyValueCaches(running.code, 3), last_only=True)
    np.testing.assert_array_equal(last, module(ids)[:, -1:])


def test_generation_is_greedy_on_whole_sequences(module: qcc.Module) -> None:
    ids = tokens(2, 5)
    produced = module.generate(ids, 6)
    for _ in range(6):
        ids = np.concatenate([ids, module(ids)[:, -1:].argmax(-1)], 1)
    np.testing.assert_array_equal(produced, ids[:, 5:])
    assert module.verify()["passed"]


def test_the_cache_takes_the_bytes_of_its_formats(module: qcc.Module) -> None:
    first, second = module._running.code.caches
    assert (first.heads, first.keys.depth) == (KEY_HEADS, DEPTH)
    assert first.position_bytes == KEY_HEADS * (INT4 + MXFP8)
    assert second.position_bytes == KEY_HEADS * (INT4 + FP32)
    caches = KeyValueCaches(module._running.code, 3)
    caches.reserve(1)
    stored = first.position_bytes + second.position_bytes
    marks = 3 * KEY_HEADS * 8  # keys and values of the first cache, keys of the second
    assert caches.nbytes == 3 * (caches.capacity * stored + marks)


def test_the_step_has_no_rounding_of_its_own(artifact: Path) -> None:
    """What only attention reads is rounded where it is stored; @main still rounds by itself."""
    with Artifact.open(artifact) as opened:
        text = opened.read("model.mlir").decode()
    functions = {part.split("(")[0]: part for part in text.split("func.func @")[1:]}
    rounded = {
        name: [line for line in part.splitlines() if "qcc.quantize" in line and "int8" not in line]
        for name, part in functions.items()
    }
    assert len(rounded["main"]) == 3
    assert rounded["step"] == []
    assert functions["step"].count("key_format") == 2
    assert functions["step"].count("value_format") == 1


def test_report_and_inspect_say_what_a_token_takes(
    artifact: Path, module: qcc.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = module.report["kv_cache"]
    stored = KEY_HEADS * (2 * INT4 + MXFP8 + FP32)
    assert (cache["token_bytes"], cache["token_bytes_fp32"]) == (stored, KEY_HEADS * 4 * FP32)
    formats = [(layer["name"], layer["keys"], layer["values"]) for layer in cache["layers"]]
    assert formats == [("attention.0", "int4", "mxfp8_e4m3"), ("attention.1", "int4", None)]
    capsys.readouterr()
    assert main(["inspect", str(artifact)]) == 0
    assert f"KV cache {stored} B a token, 512 B in fp32" in capsys.readouterr().out
    assert main(["inspect", str(artifact), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kv_cache"]["token_bytes"] == stored


def test_why_a_side_is_kept_in_fp32(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys whose scale is that of all tokens, and values whose format does not fit their rows."""
    sample = FAMILIES["gpt2"]()
    exported = torch.export.export(
        sample.module, sample.inputs, dynamic_shapes=sample.dynamic_shapes
    )
    torch.export.save(exported, tmp_path / "gpt2.pt2")
    (tmp_path / "kv.toml").write_text(
        '[default]\nkv = {k = "int8<group=tensor>", v = "int4<group=12>"}\n'
    )
    out = tmp_path / "gpt2.qcc"
    argv = ["compile", str(tmp_path / "gpt2.pt2"), "--recipe", str(tmp_path / "kv.toml")]
    assert main([*argv, "-o", str(out), "--print-resolved"]) == 0
    shown = capsys.readouterr().out
    module = qcc.load(out)
    cache = module.report["kv_cache"]
    assert cache["token_bytes"] == cache["token_bytes_fp32"]
    reason = cache["layers"][0]["reason"]
    assert "keys are rounded to int8<group=tensor> and kept in fp32: rows share a scale" in reason
    assert "values left in the model's precision: int4: rows of 16 do not divide" in reason
    assert reason in shown
    assert "k int8<group=tensor>, v -" in shown
    assert module.generate(tokens(1, 4), 3).shape == (1, 3)

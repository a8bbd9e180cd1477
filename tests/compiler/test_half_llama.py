"""A decoder in half precision from end to end: steps, caches, static ranges, views, verifying."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import torch
from torch import Tensor, nn

import qcc
from qcc.compiler.cli import main
from qcc.models.llama import Llama, LlamaConfig, dynamic_shapes

CONFIG = LlamaConfig(vocabulary=64, width=32, layers=1, heads=4, kv_heads=2, hidden=64, tied=True)
IDS = torch.arange(16).reshape(2, 8) * 7 % 64


@functools.cache
def single() -> nn.Module:
    torch.manual_seed(0)
    return Llama(CONFIG).eval().requires_grad_(False)


def half(dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(single()).to(dtype)


def compiled(model: nn.Module, recipe: object, **options: object) -> qcc.Module:
    return qcc.compile(model, (IDS,), recipe=recipe, dynamic_shapes=dynamic_shapes(), **options)  # type: ignore[arg-type]


def error(actual: Tensor, expected: Tensor) -> float:
    wide = expected.double()
    return float((actual.double() - wide).abs().max() / wide.abs().max())


def greedy(model: nn.Module, count: int) -> list[int]:
    tokens = IDS[:1, :4]
    for _ in range(count):
        tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(-1)], 1)
    return tokens[0, 4:].tolist()


def verified(module: qcc.Module, folder: Path) -> bool:
    path = folder / "half.qcc"
    module.save(path)
    return main(["verify", str(path)]) == 0


def test_bf16_with_static_activations_and_a_packed_cache(tmp_path: Path) -> None:
    recipe = {
        "default": {
            "weights": "int8",
            "activations": "int8",
            "calibration": "static",
            "kv": "int8",
        }
    }
    model = half(torch.bfloat16)
    module = compiled(model, recipe, calibration=[(IDS,), (IDS.flip(1),)], validate=True)
    result = module(IDS)
    assert result.dtype == torch.bfloat16
    assert error(result, model(IDS)) <= 0.05
    assert error(result, single()(IDS)) <= 0.05
    assert module.generate(IDS[:1, :4], 3).tolist()[0] == greedy(model, 3)
    assert module.report["kv_cache"]["layers"][0]["keys"] == "int8"
    assert verified(module, tmp_path)


def test_nestedfp_of_fp16_is_its_own_precision(tmp_path: Path) -> None:
    model = half(torch.float16)
    module = compiled(model, {"default": {"weights": "nestedfp16", "embeddings": "nestedfp16"}})
    own = compiled(model, None, golden=False)
    assert torch.equal(module(IDS), own(IDS))
    assert all(layer["sqnr_db"] is None for layer in module.report["layers"])
    assert error(own(IDS), model(IDS)) <= 2.0**-9
    assert own.generate(IDS[:1, :4], 3).tolist()[0] == greedy(model, 3)
    assert own.report["kv_cache"]["layers"][0]["keys"] == "fp16"
    assert error(module.at_precision("fp8_e4m3")(IDS), model(IDS)) <= 0.2
    assert verified(module, tmp_path)

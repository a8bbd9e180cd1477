"""Small models whose parts depend on each other in ways that groups of ops must respect."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import qcc


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCC_CACHE", str(tmp_path_factory.mktemp("cache")))


class Classifier(nn.Module):
    """
    Blocks of activations that do not divide the rows, and a maximum that two results read.

    Softmax reads it in its own kernel, argmax stores only the index beside it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(33, 20), nn.Linear(20, 7)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.last(torch.nn.functional.silu(self.first(x)))
        return y.softmax(-1), y.argmax(-1)


def compiled(model: nn.Module, x: torch.Tensor, **options: Any) -> Any:
    return qcc.compile(model.eval().requires_grad_(False), (x,), target="cuda:emulate", **options)


def test_groups_of_blocks_and_shared_reductions() -> None:
    torch.manual_seed(0)
    model, x = Classifier(), torch.randn(3, 33)
    module = compiled(model, x, recipe="amxfp4")
    assert module.verify()["passed"]
    shares, best = module(x)
    assert (shares - model(x)[0]).abs().max() < 0.15
    assert torch.equal(shares.argmax(-1), best)


def test_a_model_in_bf16_keeps_its_type() -> None:
    """Weights without a format are multiplied as bf16, whatever fp32 layers would be rounded to."""
    torch.manual_seed(0)
    layers = [nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 5)]
    model, x = nn.Sequential(*layers).bfloat16(), torch.randn(2, 40).bfloat16()
    module = compiled(model, x)
    assert {layer["weights"] for layer in module.report["layers"]} == {"bf16"}
    assert module.verify()["passed"]
    assert (module(x) - model(x)).abs().max() <= 2**-7 * model(x).abs().max()


def test_an_fp8_view_of_rows_that_fill_no_word() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(97, 9), torch.randn(2, 97)
    module = compiled(model, x, recipe="nestedfp")
    assert module.verify()["passed"]
    assert (module(x) - model(x)).abs().max() < 2e-3


class Joined(nn.Module):
    """The open axis twice as long, in another place, and normalized: its size may be 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, 2 * x], 1).transpose(1, 2).softmax(-1)


@pytest.mark.parametrize("length", [0, 3])
def test_sizes_that_are_computed_and_empty(joined: qcc.Module, length: int) -> None:
    x = torch.randn(2, length, 5)
    torch.testing.assert_close(torch.as_tensor(joined(x)), Joined()(x))


@pytest.fixture(scope="module")
def joined() -> Any:
    sizes = ({1: Dim("length", min=0, max=64)},)
    return qcc.compile(
        Joined(), (torch.randn(2, 4, 5),), target="cuda:emulate", dynamic_shapes=sizes, golden=False
    )


def test_rounding_a_whole_image_spills_nothing() -> None:
    """One block folds 4032 values and then rounds each: 32 rounds of a thread, a few at a time."""
    layer = nn.Conv2d(16, 5, 5, stride=2, padding=1).eval().requires_grad_(False)
    recipe = {"default": {"weights": "int4", "activations": "int4"}}
    image = torch.randn(3, 16, 12, 7)
    module = qcc.compile(layer, (image,), recipe=recipe, target="cuda:sm_80", golden=False)
    kernels = {each["kernel"]: each["spill_bytes"] for each in module.report["cuda"]["kernels"]}
    assert any("roundeven" in name for name in kernels)
    assert not any(kernels.values())

"""Convolutions with rounded inputs: blocks along channels, or one scale for the tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qcc

CHANNELS = 40  # a block of 32 and a shorter one


def convolution(groups: int) -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1, groups=groups).eval()


def activations(spelling: str, **options: Any) -> dict[str, Any]:
    format_ = {"format": spelling, **options} if options else spelling
    return {"default": {"weights": "none", "activations": format_}}


def images(batch: int = 2) -> torch.Tensor:
    x = torch.randn(batch, CHANNELS, 7, 9, generator=torch.Generator().manual_seed(3))
    return x * torch.logspace(-2, 2, CHANNELS)[:, None, None]


CASES: list[tuple[int, str, dict[str, Any], dict[str, Any]]] = [
    (1, "mxfp8_e4m3", {}, {"axis": 1}),
    (CHANNELS, "mxfp8_e4m3", {}, {"axis": 1}),
    (4, "amxfp4", {"scale": "e5m2"}, {"axis": 1}),
    (4, "nvfp4", {"two_level": True}, {"axis": 1}),
    (CHANNELS, "int8", {"group": 8}, {"axis": 1}),
    (1, "int8", {}, {"axis": 1, "group": "tensor"}),
    (1, "bf16", {}, {"axis": 1}),
]


@pytest.mark.parametrize(("groups", "spelling", "options", "how"), CASES, ids=str)
def test_inputs_are_rounded_along_their_channels(
    groups: int, spelling: str, options: dict[str, Any], how: dict[str, Any]
) -> None:
    layer, x = convolution(groups), images()
    module = qcc.compile(layer, (x,), recipe=activations(spelling, **options))
    rounded = qcc.format(spelling, **options).quantize(x.numpy(), **how).dequantize()
    with torch.no_grad():
        expected = layer(torch.from_numpy(rounded)).numpy()
        magnitude = nn.functional.conv2d(
            torch.from_numpy(np.abs(rounded)), layer.weight.abs(), stride=2, padding=1,
            groups=groups,
        ).numpy()  # fmt: skip
        plain = layer(x).numpy()
    found = module(x).numpy()
    assert np.all(np.abs(found - expected) <= 1e-4 * magnitude + 1e-6)
    assert np.abs(plain - expected).max() > 10 * np.abs(found - expected).max()
    assert module.verify()["passed"]


class Mobile(nn.Sequential):
    """Three channels in, depthwise and pointwise convolutions, and a head."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, CHANNELS, 3, padding=1),
            nn.ReLU6(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1, groups=CHANNELS),
            nn.ReLU6(),
            nn.Conv2d(CHANNELS, 24, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(24, 10),
        )
        self.eval()


@pytest.mark.parametrize(("recipe", "limit"), [("mxfp8", 0.1), ("amxfp4", 0.5)])
def test_a_network_in_block_formats_verifies(recipe: str, limit: float) -> None:
    model = Mobile()
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    dynamic = ({0: torch.export.Dim("batch", min=1, max=8)},)
    module = qcc.compile(model, (x,), dynamic_shapes=dynamic, recipe=recipe)
    assert module.verify()["passed"]
    shown = {layer["name"]: layer["activations"] for layer in module.report["layers"]}
    assert shown["0"] == shown["2"] == shown["4"] is not None
    for batch in (1, 5):
        inputs = torch.randn(batch, 3, 12, 12, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = model(inputs)
        error = (module(inputs) - expected).norm() / expected.norm()
        assert 1e-4 < error < limit


def test_a_group_that_does_not_divide_the_channels_is_reported() -> None:
    module = qcc.compile(convolution(1), (images(),), recipe=activations("int8", group=32))
    (layer,) = module.report["layers"]
    assert layer["activations"] is None
    assert "rows of 40 do not divide into groups of 32" in layer["reason"]

"""Models whose parameters are fp16, bf16 or fp64, and mixtures of them: compiled and quantized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qcc

ROUNDING = {torch.bfloat16: 2.0**-6, torch.float16: 2.0**-9, torch.float64: 1e-12, None: 2e-6}
"""What eager torch of the same type may differ by, relative to the largest value."""
QUANTIZED = 0.03


class Classifier(nn.Module):
    """An embedding whose table is also the head, written as a product."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(64, 32)
        self.norm = nn.LayerNorm(32)
        self.up, self.down = nn.Linear(32, 48), nn.Linear(48, 32, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.down(F.gelu(self.up(self.norm(self.table(ids))), approximate="tanh"))
        return x @ self.table.weight.T


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 16, 3, stride=2, groups=2), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head(self.second(x).mean((2, 3)))


class Attending(nn.Module):
    """Attention with a mask of the model's own type, and by hand with products."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        hidden = torch.ones(6, 6).triu(1).bool()
        self.mask = nn.Buffer(torch.zeros(6, 6).masked_fill(hidden, -1e4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        heads = (part.unflatten(-1, (4, 8)).transpose(1, 2) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(*heads, attn_mask=self.mask[None, None])
        by_hand = torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)) / 6.0, -1), v)
        return self.out(attended.transpose(1, 2).flatten(2) + by_hand)


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 48), nn.Linear(48, 16)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.down(torch.relu(self.up(x)))


class Mixed(nn.Module):
    """A body of bf16 between an fp32 norm and head, and weights widened where they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(48, 16)
        self.body = nn.Linear(32, 48).bfloat16()
        self.wide = nn.Linear(48, 48).bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.norm(x).bfloat16()).float()
        return self.head(F.linear(x, self.wide.weight.float(), self.wide.bias.float()))


def ids() -> Tensor:
    return torch.arange(10).reshape(2, 5) * 7 % 64


def images() -> Tensor:
    return torch.randn(2, 3, 12, 12)


CASES: dict[
    str, tuple[Callable[[], nn.Module], Callable[[], Tensor], torch.dtype | None, float]
] = {
    "classifier bf16": (Classifier, ids, torch.bfloat16, 0.6),
    "classifier fp64": (Classifier, ids, torch.float64, 0.6),
    "images fp16": (Images, images, torch.float16, 1.0),
    "attending bf16": (Attending, lambda: torch.randn(2, 6, 32), torch.bfloat16, 1.0),
    "attending fp64": (Attending, lambda: torch.randn(2, 6, 32), torch.float64, 1.0),
    "autocast": (Autocast, lambda: torch.randn(2, 32), None, 1.0),
    "mixed": (Mixed, lambda: torch.randn(2, 32), None, 1.0),
}


def made(name: str) -> tuple[nn.Module, Tensor, float, float]:
    """The model, its input, and what it may differ by and must cover."""
    factory, inputs, dtype, coverage = CASES[name]
    torch.manual_seed(0)
    model, x = factory().eval().requires_grad_(False), inputs()
    if dtype is not None:
        model = model.to(dtype)
        x = x.to(dtype) if x.is_floating_point() else x
    tolerance = ROUNDING[torch.bfloat16 if name in ("autocast", "mixed") else dtype]
    if name == "attending fp64":
        tolerance = ROUNDING[None]  # attention is fp32 throughout
    return model, x, tolerance, coverage


def error(actual: Any, expected: Tensor) -> float:
    assert actual.dtype == expected.dtype
    wide = expected.double()
    return float((actual.double() - wide).abs().max() / wide.abs().max())


@pytest.mark.parametrize("name", CASES)
def test_model_keeps_its_own_precision_without_a_recipe(name: str) -> None:
    model, x, tolerance, _ = made(name)
    compiled = qcc.compile(model, (x,))
    assert error(compiled(x), model(x)) <= tolerance
    report = compiled.report
    assert report["coverage"] == 0
    assert report["golden"]["outputs"][0]["max_rel_error"] <= tolerance


@pytest.mark.parametrize("name", CASES)
def test_model_is_quantized_layer_by_layer(name: str) -> None:
    model, x, _, coverage = made(name)
    compiled = qcc.compile(model, (x,), recipe="int8", validate=True, golden=False)
    assert error(compiled(x), model(x)) <= QUANTIZED
    assert compiled.report["coverage"] >= coverage


def test_weights_in_half_precision_take_two_bytes_until_they_are_quantized() -> None:
    model, x, *_ = made("classifier bf16")
    own = qcc.compile(model, (x,), golden=False).report
    assert own["bytes_after"] == own["bytes_before"]
    assert own["bytes_before"] == 2 * sum(each.numel() for each in model.parameters())


def test_weight_that_autocast_rounds_is_stored_as_it_is_used() -> None:
    model, x, *_ = made("autocast")
    own = qcc.compile(model, (x,), golden=False).report
    assert [layer["name"] for layer in own["layers"]] == ["up", "down"]
    for layer in own["layers"]:
        assert layer["bytes_after"] * 2 == layer["bytes_before"]


def test_scan_reads_what_an_op_before_it_made() -> None:
    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 2.0).cumsum(-1)

    x = torch.arange(12.0).reshape(2, 6)
    assert torch.equal(qcc.compile(Sums(), (x,))(x), Sums()(x))


def test_sums_in_half_precision_do_not_stop_growing() -> None:
    class Sums(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return x.sum(-1), x.mean(-1), x.cumsum(-1)

    x = torch.ones(2, 1000, dtype=torch.bfloat16)
    for actual, expected in zip(qcc.compile(Sums(), (x,))(x), Sums()(x), strict=True):
        assert error(actual, expected) <= ROUNDING[torch.bfloat16]

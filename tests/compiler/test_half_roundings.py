"""Half precision is rounded where torch rounds it: after each of its ops, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qcc

HALVES = (torch.float16, torch.bfloat16)


class Exact(nn.Module):
    """A layer whose sums round nothing, and functions that torch and qcc compute alike."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(16, 24)
        with torch.no_grad():
            for weight in self.up.parameters():
                weight.copy_((weight * 64).round() / 16)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        hidden = F.silu(self.up(x)) * 0.1 + self.up(x)
        gate = torch.sigmoid(hidden) - 0.3
        return hidden, gate, (gate * 4).exp() / 3, hidden * hidden * hidden + hidden + 0.1, 1 / gate


class Near(nn.Module):
    """Sums in another order, and error functions: what rounds to the neighbour now and then."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = x * 0.7 + 0.1
        normed = F.layer_norm(x, (16,))
        return normed, x.softmax(-1), F.gelu(x.clamp(min=-1)), torch.tanh(x), x.mean(-1)


def compiled(model: nn.Module, x: Tensor, target: str = "cpu") -> tuple[Tensor, ...]:
    return qcc.compile(model, (x,), target=target)(x)  # pyright: ignore[reportReturnType]


def inputs(kind: torch.dtype) -> Tensor:
    drawn = torch.randn(32, 16, generator=torch.Generator().manual_seed(3))
    return (drawn * 8).round().div(8).to(kind)


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("target", ["cpu", "cuda:emulate"])
def test_each_op_rounds_once(kind: torch.dtype, target: str) -> None:
    torch.manual_seed(0)
    model, x = Exact().to(kind).requires_grad_(False), inputs(kind)
    for found, wanted in zip(compiled(model, x, target), model(x), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", HALVES)
def test_other_orders_of_sums_give_a_neighbour_at_most(kind: torch.dtype) -> None:
    x = inputs(kind)
    for found, wanted in zip(compiled(Near(), x), Near()(x), strict=True):
        assert spacings(found, wanted) <= 1


def spacings(found: Tensor, wanted: Tensor) -> int:
    """How many numbers of their type two tensors are apart, at most."""
    first, second = (each.view(torch.int16).int() for each in (found, wanted))
    first, second = (torch.where(each < 0, -(each & 0x7FFF), each) for each in (first, second))
    return int((first - second).abs().max())

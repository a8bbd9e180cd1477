"""Unsigned bytes, the type of images: values above 127 are what torch says they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import qcc

A = torch.tensor([[200, 100, 7], [255, 0, 128]], dtype=torch.uint8)
B = torch.tensor([[100, 200, 3], [1, 9, 129]], dtype=torch.uint8)
FUNCTIONS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda a, b: a / 255,
    lambda a, b: a * 2.5,
    lambda a, b: a * 2,
    lambda a, b: a - 127.5,
    lambda a, b: 255 - a,
    lambda a, b: -a,
    lambda a, b: a / b,
    lambda a, b: a // 3,
    lambda a, b: a % 7,
    lambda a, b: a == 200,
    lambda a, b: a < b,
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a + torch.ones(3, dtype=torch.int32),
    lambda a, b: a.sqrt(),
    lambda a, b: a.clamp(10, 150),
    lambda a, b: torch.maximum(a, b),
    lambda a, b: a.max(),
    lambda a, b: a.amin(1),
    lambda a, b: a.max(1)[0],
    lambda a, b: a.sort(1)[0],
    lambda a, b: a.topk(2)[0],
    lambda a, b: a.argmax(1),
    lambda a, b: a.sum(),
    lambda a, b: a.sum(1, dtype=torch.float32),
    lambda a, b: a.float().mean(),
    lambda a, b: torch.where(a > 150, a, b),
]


class Every(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return tuple(function(a, b) for function in FUNCTIONS)


def test_ops_on_bytes() -> None:
    results = qcc.compile(Every(), (A, B))(A, B)
    for index, (found, wanted) in enumerate(zip(results, Every()(A, B), strict=True)):
        assert found.dtype == wanted.dtype, index
        torch.testing.assert_close(found, wanted, msg=lambda told, index=index: f"{index}: {told}")


class Filtered(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(x == x, x, 0), (x == x).all()


@pytest.mark.parametrize("number", [float("nan"), 1.0])
def test_a_number_equals_itself_but_for_nan(number: float) -> None:
    x = torch.tensor([2.0, number, float("inf")])
    kept, all_equal = qcc.compile(Filtered(), (x,))(x)
    wanted, wanted_all = Filtered()(x)
    assert torch.equal(kept, wanted)
    assert all_equal == wanted_all

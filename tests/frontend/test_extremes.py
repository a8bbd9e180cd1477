"""Elementwise functions of extreme numbers: compiled, they give what torch gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import qcc

EXTREMES = (0.0, 1e-10, 1e-5, 0.3, 0.9, 1.5, 3.0, 20.0, 100.0, 1e20, float("inf"))


class Calls(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def compiled(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    results = qcc.compile(Calls(function), (x,))(x)
    assert isinstance(results, Tensor)
    return results


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "one over": lambda x: 1 / x,
    "reciprocal": torch.reciprocal,
    "guarded reciprocal": lambda x: torch.where(x == 0, 0, 1 / x),
    "rsqrt": torch.rsqrt,
    "copysign": lambda x: torch.copysign(x.abs() + 1, x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_extremes_are_as_in_torch(name: str) -> None:
    function = FUNCTIONS[name]
    both = [sign * value for value in EXTREMES for sign in (1, -1)]
    x = torch.tensor([*both, float("nan")])
    torch.testing.assert_close(
        compiled(function, x), function(x), rtol=1e-6, atol=0, equal_nan=True
    )

"""Elementwise functions of extreme numbers: compiled, they give what torch gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import qcc

F = nn.functional
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
    "copysign with one": lambda x: torch.copysign(torch.ones(()), x),
    "logsigmoid": F.logsigmoid,
    "softplus": F.softplus,
    "softplus scaled": lambda x: F.softplus(x, 0.5, 4),
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "elu": lambda x: F.elu(x, 0.7),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 1.3),
    "mish": F.mish,
    "hypot": lambda x: torch.hypot(x, 2 * x.flip(0)),
    "complex abs": lambda x: torch.complex(x, x * 0.5).abs(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_extremes_are_as_in_torch(name: str) -> None:
    function = FUNCTIONS[name]
    both = [sign * value for value in EXTREMES for sign in (1, -1)]
    x = torch.tensor([*both, float("nan")])
    torch.testing.assert_close(
        compiled(function, x), function(x), rtol=1e-6, atol=1e-40, equal_nan=True
    )


@pytest.mark.parametrize("name", ["logsigmoid", "softplus", "elu", "hypot", "log1p"])
def test_half_precision_is_rounded_once(name: str) -> None:
    x = torch.tensor([sign * value for value in EXTREMES for sign in (1, -1)]).bfloat16()
    got, wanted = compiled(FUNCTIONS[name], x), FUNCTIONS[name](x)
    torch.testing.assert_close(got, wanted, rtol=2**-8, atol=0, equal_nan=True)


def in_groups(x: Tensor) -> Tensor:
    return F.group_norm(x.view(2, 8, 64), 2)


REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "group_norm": in_groups,
    "native_group_norm": lambda x: torch.native_group_norm(
        x.view(2, 8, 64), None, None, 2, 8, 64, 2, 1e-5
    )[0],
    "instance_norm": lambda x: F.instance_norm(x.view(2, 2, 256)),
    "var_mean": lambda x: torch.stack(torch.var_mean(x, 1)),
    "var": lambda x: x.var(),
    "std": lambda x: torch.stack(torch.std_mean(x, 1, correction=0)),
    "mse_loss": lambda x: F.mse_loss(x, x.flip(0)),
    "l1_loss": lambda x: F.l1_loss(x, x.flip(0)),
    "smooth_l1_loss": lambda x: F.smooth_l1_loss(x, x.flip(0)),
    "huber_loss": lambda x: F.huber_loss(x, x.flip(0)),
    "binary_cross_entropy": lambda x: F.binary_cross_entropy(x.sigmoid(), x.flip(0).sigmoid()),
    "with logits": lambda x: F.binary_cross_entropy_with_logits(x, x.flip(0) / 8),
    "kl_div": lambda x: F.kl_div(x, x.flip(0).exp(), reduction="mean"),
    "cross_entropy": lambda x: F.cross_entropy(x, x.softmax(1)),
    "trace": lambda x: x.view(32, 32).trace(),
    "logsumexp": lambda x: x.logsumexp(1),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_half_precision_is_added_in_single(name: str) -> None:
    x = (torch.randn(2, 512, generator=torch.Generator().manual_seed(1)) + 3).bfloat16()
    function = REDUCTIONS[name]
    # Steps before and after the reduction round, each to eight bits.
    wanted = function(x.float())
    got = compiled(function, x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), wanted, rtol=2**-6, atol=2**-6)


def test_integers_keep_their_types() -> None:
    def function(x: Tensor) -> Tensor:
        mean = x.scatter_reduce(0, x % 3, x * 3 - 10, "mean")
        assert mean.dtype == torch.int64
        return mean + (x > 2).pow(2) + x.pow(3)

    x = torch.arange(7)
    got = compiled(function, x)
    assert got.dtype == torch.int64
    assert torch.equal(got, function(x))


class Divided(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return torch.div(a, b, rounding_mode="trunc"), a % b


@pytest.mark.parametrize("target", ["cpu", "cuda:emulate"])
def test_divisions_of_integers_end_no_process(target: str) -> None:
    """Where torch raises, by zero, results are zero; golden inputs have such divisors too."""
    a = torch.tensor([7, -7, 6, 5, 0, 9])
    b = torch.tensor([2, 2, -1, 3, -3, -4])
    module = qcc.compile(Divided(), (a, b), target=target)
    quotients, rests = module(a, b)
    assert torch.equal(quotients, torch.div(a, b, rounding_mode="trunc"))
    assert torch.equal(rests, a % b)
    for result in module(a, torch.zeros_like(b)):
        assert not result.any()
    least = torch.full_like(a, -(2**63))  # over -1 it ends torch's own process
    quotients, rests = module(least, torch.full_like(b, -1))
    assert torch.equal(quotients, least)
    assert not rests.any()


SPECIAL = (0.0, 1.0, -1.0, 2.5, -7.0, 0.3, 1e30, float("inf"), float("-inf"), float("nan"))
PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "fmod": torch.fmod,
    "fmod by a number": lambda a, b: torch.fmod(a, 0.3),
    "floor": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "floor by a number": lambda a, b: a // 0.1,
    "root": lambda a, b: a**0.5,
    "inverse root": lambda a, b: a**-0.5,
    "first NaN": lambda a, b: torch.stack([(a * b).argmax(), a.argmin(), b.argmax()]),
    "NaN of columns": lambda a, b: b.view(10, 10).max(1).indices,
    "least of columns": lambda a, b: a.view(10, 10)[:9].min(0).indices,
    "equal to a number": lambda a, b: a == 0.3,
    "constant above a number": lambda a, b: torch.where(torch.full((), 0.7) < 0, a, b),
}


@pytest.mark.parametrize("name", PAIRS)
def test_special_numbers_are_as_in_torch(name: str) -> None:
    values = torch.tensor(SPECIAL)
    a, b = (each.flatten() for each in torch.meshgrid(values, values, indexing="ij"))
    a, b = a.contiguous(), b.contiguous()
    found = qcc.compile(Both(PAIRS[name]), (a, b))(a, b)
    torch.testing.assert_close(found, PAIRS[name](a, b), rtol=1e-6, atol=0, equal_nan=True)


class Both(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.function(a, b)

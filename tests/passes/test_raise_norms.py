"""Norms as models spell them: which become qcc's, with weight and bias, and which must not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import qcc
from qcc.compiler.frontend.import_program import import_program
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.pipeline import run_passes
from qcc.dialects.regions import walk
from qcc.passes.raise_torch import Raising, raise_torch

Spelling = Callable[[Tensor, Tensor, Tensor], Tensor]
COLUMNS = 24


def spread(x: Tensor) -> Tensor:
    return x.pow(2).mean(-1, keepdim=True) + 1e-6


def centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def variance(x: Tensor) -> Tensor:
    return x.var(-1, keepdim=True, unbiased=False) + 1e-5


NORMS: dict[str, tuple[Spelling, str, int]] = {
    "rms": (lambda x, w, b: x * torch.rsqrt(spread(x)), "rms_norm", 1),
    "rms before": (lambda x, w, b: w * (torch.rsqrt(spread(x)) * x), "rms_norm", 2),
    "rms of a square": (
        lambda x, w, b: x * torch.rsqrt((x * x).mean(1, keepdim=True) + 1e-6) * w, "rms_norm", 2,
    ),
    "rms over a root": (lambda x, w, b: x / torch.sqrt(spread(x)) * w, "rms_norm", 2),
    "rms with casts": (
        lambda x, w, b: w * (x.float() * torch.rsqrt(spread(x.float()))).to(x.dtype), "rms_norm", 2,
    ),
    "layer": (lambda x, w, b: centred(x) / torch.sqrt(variance(x)) * w + b, "layer_norm", 3),
    "layer of a square": (
        lambda x, w, b: b + w * (centred(x) * torch.rsqrt(spread(centred(x)))), "layer_norm", 3,
    ),
    "torch's, then a weight": (
        lambda x, w, b: nn.functional.layer_norm(x, (COLUMNS,)) * w + b, "layer_norm", 3,
    ),
}  # fmt: skip
OTHERS: dict[str, Spelling] = {
    "others' squares": lambda x, w, b: x * torch.rsqrt(spread(x + 1)),
    "unbiased": lambda x, w, b: centred(x) / torch.sqrt(x.var(-1, keepdim=True) + 1e-5),
    "cubes": lambda x, w, b: x * torch.rsqrt(x.pow(3).mean(-1, keepdim=True).abs() + 1e-6),
    "columns": lambda x, w, b: x * torch.rsqrt(x.pow(2).mean(0, keepdim=True) + 1e-6),
    "half precision": lambda x, w, b: (x.half() * torch.rsqrt(spread(x.half()))).float(),
}


class Model(nn.Module):
    def __init__(self, spelling: Spelling) -> None:
        super().__init__()
        self.spelling = spelling
        self.weight, self.bias = (nn.Parameter(torch.rand(COLUMNS) + 0.5) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.spelling(x, self.weight, self.bias)


def norms(spelling: Spelling) -> list[tuple[str, int]]:
    """The norms of a program and their operands, dead ones left out."""
    program = torch.export.export(Model(spelling).eval(), (torch.randn(3, COLUMNS),))
    with make_context() as context, ir.Location.unknown():
        module = import_program(program, context, False)
        raise_torch(Raising())(module.operation, None)
        assert module.operation.verify()
        run_passes(module, "func.func(canonicalize)", "test")
        ops = [op.operation for op in walk(module) if "_norm" in op.operation.name]
        return [(op.name.removeprefix("qcc."), len(op.operands)) for op in ops]


@pytest.mark.parametrize("name", NORMS)
def test_spelled_norms(name: str) -> None:
    spelling, op, operands = NORMS[name]
    assert norms(spelling) == [(op, operands)]


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_norm(name: str) -> None:
    assert norms(OTHERS[name]) == []


@pytest.mark.parametrize(
    "spelling",
    [
        lambda x, w, b: (nn.functional.layer_norm(x, (COLUMNS,)) + b) * w,
        lambda x, w, b: nn.functional.layer_norm(x, (COLUMNS,), None, b) * w,
    ],
    ids=["added", "given"],
)
def test_a_weight_behind_the_bias_stays_apart(spelling: Spelling) -> None:
    torch.manual_seed(0)
    model, x = Model(spelling).eval(), torch.randn(5, COLUMNS)
    assert norms(spelling)[0][0] == "layer_norm"
    torch.testing.assert_close(qcc.compile(model, (x,))(x), model(x).detach())


def test_a_norm_that_others_read_keeps_its_weight_apart() -> None:
    def twice(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        normed = x * torch.rsqrt(spread(x))
        return normed * w + normed * b

    assert norms(twice) == [("rms_norm", 1)]


@pytest.mark.parametrize("name", ["rms with casts", "layer", "layer of a square"])
def test_results(name: str) -> None:
    torch.manual_seed(0)
    model, x = Model(NORMS[name][0]).eval(), 3 * torch.randn(5, COLUMNS) + 1
    compiled = qcc.compile(model, (x,))
    torch.testing.assert_close(compiled(x), model(x).detach(), rtol=1e-5, atol=1e-5)

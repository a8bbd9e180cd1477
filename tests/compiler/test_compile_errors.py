"""What a user can do wrong when compiling a model or calling a compiled one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import qcc
from qcc.dialects.errors import UnsupportedError, UsageError


def test_a_module_without_inputs() -> None:
    with pytest.raises(qcc.QccError) as refused:
        qcc.compile(nn.Linear(2, 2))
    assert refused.value.code == "example-inputs-missing"


FREE = ({0: Dim("batch", min=1, max=8)},)


@pytest.fixture(scope="module")
def module() -> qcc.Module:
    torch.manual_seed(0)
    return qcc.compile(nn.Linear(6, 3).eval(), (torch.randn(2, 6),), dynamic_shapes=FREE)


@pytest.mark.parametrize(
    ("arrays", "code", "told"),
    [
        ([np.ones((2, 6))], "input-dtype", "float64"),
        ([np.ones((2, 6), np.int64)], "input-dtype", "float32"),
        ([np.ones(6, np.float32)], "input-rank", "[6]"),
        ([np.ones((2, 6, 1), np.float32)], "input-rank", "[2, 6, 1]"),
        ([np.ones((2, 7), np.float32)], "input-size", "size 7 on axis 1"),
        ([np.ones((9, 6), np.float32)], "input-size", "size 9 on axis 0"),
        ([], "input-count", "0 inputs"),
        ([np.ones((2, 6), np.float32)] * 2, "input-count", "2 inputs"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit(module, arrays: list[np.ndarray], code: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        module(*arrays)
    assert refused.value.code == code
    assert told in refused.value.what


def test_a_module_still_runs_after_a_refusal(module) -> None:
    with pytest.raises(UsageError):
        module(np.ones((2, 7), np.float32))
    assert module(np.ones((8, 6), np.float32)).shape == (8, 3)


def compile_linear(**options: Any) -> qcc.Module:
    return qcc.compile(nn.Linear(6, 3).eval(), (torch.randn(2, 6),), **options)


def test_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(UsageError) as refused:
        compile_linear(recipe="no-such-recipe")
    assert "no-such-recipe" in str(refused.value)
    assert refused.value.next_step or refused.value.why


@pytest.mark.parametrize(
    "recipe", [{"default": {"weights": "int99"}}, {"default": {"wieghts": "int8"}}, {"rules": 3}]
)
def test_recipes_that_cannot_be_obeyed(recipe: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        compile_linear(recipe=recipe)


def test_unknown_target() -> None:
    with pytest.raises(UnsupportedError) as refused:
        compile_linear(target="mars")
    assert refused.value.code == "target-unknown"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"operands": "bf16"}, "target cpu takes no operands"),
        ({"dpus": 4}, "target cpu takes no dpus"),
        ({"device": "v1B", "target": "cuda:emulate"}, "target cuda:emulate takes no device"),
        ({"tokens": 8, "target": "cuda:sm_80"}, "target cuda:sm_80 takes no tokens"),
        ({"operands": "bf16", "target": "upmem"}, "target upmem takes no operands"),
    ],
)
def test_options_of_another_target(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told) as refused:
        compile_linear(**options)
    assert refused.value.code == "option-target"


class Spectrum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(x)  # this very line is named


class Counting(nn.Module):
    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return x * self.calls


def test_an_unsupported_op_is_named_with_its_line() -> None:
    with pytest.raises(UnsupportedError) as refused:
        qcc.compile(Spectrum().eval(), (torch.randn(4, 4),))
    text = str(refused.value)
    assert "svd" in text
    assert "test_compile_errors.py" in text
    assert refused.value.exit_code == 3


def test_a_model_that_writes_its_buffer() -> None:
    with pytest.raises(UnsupportedError) as refused:
        qcc.compile(Counting().eval(), (torch.randn(4),))
    assert refused.value.code == "buffer-mutation"
    assert "calls" in refused.value.what

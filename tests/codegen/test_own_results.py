"""Results that share memory with each other or with arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import qcc
from qcc.codegen.cpu.own_results import own_results
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context


class Calls(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def test_a_second_view_of_a_buffer_becomes_a_copy(check) -> None:
    # CHECK: func.func @main(%arg0: tensor<6xf32> {bufferization.writable = false}
    # CHECK: %[[V:.*]] = tensor.expand_shape %arg0
    # CHECK: %[[C:.*]] = bufferization.alloc_tensor() copy(%[[V]])
    # CHECK: return %arg0, %[[C]], %arg1
    text = """
      func.func @main(%x: tensor<6xf32>, %i: index) -> (tensor<6xf32>, tensor<2x3xf32>, index) {
        %v = tensor.expand_shape %x [[0, 1]] output_shape [2, 3]
          : tensor<6xf32> into tensor<2x3xf32>
        return %x, %v, %i : tensor<6xf32>, tensor<2x3xf32>, index
      }"""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        own_results(module)
        assert module.operation.verify()
        check(str(module))


def twice(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = x + 1
    return y, y, y.view(2, 6), y.t(), y.t().contiguous()


@pytest.mark.parametrize(
    "function", [twice, lambda x: (x.reshape(-1), x.flatten(), x, x[None].squeeze(0))]
)
def test_each_result_is_freed_once(function: Callable[..., Any]) -> None:
    x = torch.randn(3, 4)
    module = qcc.compile(Calls(function), (x,))
    for _ in range(3):
        for got, wanted in zip(module(x), function(x), strict=True):
            assert torch.equal(got, wanted)


def test_inputs_stay_as_they_are() -> None:
    def write(x: torch.Tensor) -> torch.Tensor:
        return x.slice_scatter(x[:, :2] * 2, 1, 1, 3)

    x = torch.randn(3, 4)
    before = x.clone()
    assert torch.equal(qcc.compile(Calls(write), (x,))(x), write(before))
    assert torch.equal(x, before)

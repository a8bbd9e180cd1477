"""Limits by comparisons that NaN fails, so that it stays; those of torch-mlir replace it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

aten = torch.ops.aten

Limit = float | Tensor | None


def clamped(source: Tensor, low: Limit = None, high: Limit = None) -> Any:
    if not source.is_floating_point():
        return NotImplemented
    value = source
    if low is not None:
        value = maximum(_tensor(low, source), value)
    if high is not None:
        value = minimum(_tensor(high, source), value)
    return value


def maximum(left: Tensor, right: Tensor) -> Any:
    if not left.is_floating_point() or not right.is_floating_point():
        return NotImplemented
    return torch.where((left > right) | (left != left), left, right)


def minimum(left: Tensor, right: Tensor) -> Any:
    if not left.is_floating_point() or not right.is_floating_point():
        return NotImplemented
    return torch.where((left < right) | (left != left), left, right)


def _tensor(limit: float | Tensor, like: Tensor) -> Tensor:
    if isinstance(limit, Tensor):
        return limit.to(like.dtype)
    return torch.full((), limit, dtype=like.dtype, device=like.device)


def above(source: Tensor, threshold: float, value: float) -> Tensor:
    return torch.where(source <= threshold, _tensor(value, source), source)


def clamped_below(source: Tensor, low: Limit) -> Any:
    return clamped(source, low)


def clamped_above(source: Tensor, high: Limit) -> Any:
    return clamped(source, None, high)


def ignoring_nan(choose: Callable[[Tensor, Tensor], Any]) -> Callable[..., Any]:
    """fmin and fmax: the other one where one is NaN."""

    def respelled(left: Tensor, right: Tensor) -> Any:
        chosen = choose(left, right)
        if chosen is NotImplemented:
            return chosen
        return torch.where(left != left, right, torch.where(right != right, left, chosen))

    return respelled


LIMITS: dict[OpOverload, Callable[..., Any]] = {
    aten.clamp.default: clamped,
    aten.clamp.Tensor: clamped,
    aten.clamp_max.default: clamped_above,
    aten.clamp_max.Tensor: clamped_above,
    aten.clamp_min.default: clamped_below,
    aten.clamp_min.Tensor: clamped_below,
    aten.clip.default: clamped,
    aten.fmax.default: ignoring_nan(maximum),
    aten.fmin.default: ignoring_nan(minimum),
    aten.hardtanh.default: lambda source, low=-1.0, high=1.0: clamped(source, low, high),
    aten.maximum.default: maximum,
    aten.minimum.default: minimum,
    aten.relu6.default: lambda source: clamped(source, 0.0, 6.0),
    aten.threshold.default: above,
}

"""
Other spellings for functions that lose their digits near zero, or overflow far from it.

torch-mlir spells expm1 as exp - 1 and log1p as log(1 + x), and what is made of them so too. Half
precision is computed in fp32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)
# The constants of SELU, as Klambauer et al. (2017, appendix A1) have them.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def in_single(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """Of one tensor: half precision and integers as fp32, fp64 as it is, complex numbers not."""

    def respelled(source: Tensor, *rest: Any, **more: Any) -> Any:
        if source.is_complex():
            return NotImplemented
        wide = source if source.dtype == torch.float64 else source.float()
        result = function(wide, *rest, **more)
        return result.to(source.dtype) if source.dtype in HALF else result

    return respelled


def log1p(x: Tensor) -> Tensor:
    """What 1 + x rounds off is off in log and in the divisor alike (Kahan)."""
    one_more = 1 + x
    near = torch.log(one_more) * x / (one_more - 1)
    near = torch.where(one_more == 1, x, near)
    return torch.where(x.abs() < 1, near, torch.log(one_more))


def expm1(x: Tensor) -> Tensor:
    """The reverse of log1p: whatever exp rounds to, its logarithm tells of which x it is."""
    power = torch.exp(x)
    near = torch.where(power == 1, x, (power - 1) * x / torch.log(power))
    return torch.where(x.abs() > 1, power - 1, near)


def _smooth_ramp(x: Tensor) -> Tensor:
    """log(1 + exp(x)), where the exponential cannot overflow."""
    return x.clamp(min=0) + log1p(torch.exp(-x.abs()))


def softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    scaled = x * beta
    return torch.where(scaled > threshold, x, _smooth_ramp(scaled) / beta)


def log_sigmoid(x: Tensor) -> Tensor:
    return -_smooth_ramp(-x)


def mish(x: Tensor) -> Tensor:
    return x * torch.tanh(_smooth_ramp(x))


def elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    return torch.where(x > 0, x * scale, expm1(x * input_scale) * (alpha * scale))


def larger_side(left: Tensor, right: Tensor) -> Tensor:
    """hypot, scaled by the larger of the two so that no square overflows or vanishes."""
    kind = torch.result_type(left, right)
    wide = torch.float64 if kind == torch.float64 else torch.float32
    left, right = (each.to(wide).abs() for each in (left, right))
    longer, shorter = torch.maximum(left, right), torch.minimum(left, right)
    ratio = shorter / torch.where(longer > 0, longer, 1.0)
    length = longer * torch.sqrt(1 + ratio * ratio)
    # Said outright: torch-mlir's maximum of a NaN and a number may be the number.
    length = torch.where(left.isnan() | right.isnan(), torch.nan, length)
    infinite = (left == torch.inf) | (right == torch.inf)
    return torch.where(infinite, torch.inf, length).to(kind)


EXTREMES: dict[OpOverload, Callable[..., Any]] = {
    aten.celu.default: in_single(lambda x, alpha=1.0: elu(x, alpha, 1, 1 / alpha)),
    aten.elu.default: in_single(elu),
    aten.expm1.default: in_single(expm1),
    aten.hypot.default: larger_side,
    aten.log1p.default: in_single(log1p),
    aten.log_sigmoid.default: in_single(log_sigmoid),
    aten.mish.default: in_single(mish),
    aten.selu.default: in_single(lambda x: elu(x, SELU_ALPHA, SELU_SCALE)),
    aten.softplus.default: in_single(softplus),
    aten.special_expm1.default: in_single(expm1),
}

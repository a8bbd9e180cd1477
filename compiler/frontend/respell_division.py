"""
Remainders, floor division and powers as torch computes them, also of infinities.

torch-mlir's own go through the quotient, which of infinite divisors times zero is NaN, and of
large ones is rounded. Half precision is computed in fp32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)


def of_floats(function: Callable[[Tensor, Tensor], Tensor], rounded: bool) -> Callable[..., Any]:
    """
    Of a tensor and a tensor or number, one of them of floats.

    `rounded` says that torch takes a number in half precision where the tensor is.
    """

    def respelled(left: Tensor, right: Tensor | float) -> Any:
        kind = torch.result_type(left, right)
        if not kind.is_floating_point:
            return NotImplemented
        wide = torch.float32 if kind in HALF else kind
        if isinstance(right, Tensor):
            divisor = right
        else:
            divisor = torch.full((), right, dtype=kind if rounded else wide, device=left.device)
        return function(left.to(wide), divisor.to(wide)).to(kind)

    return respelled


def truncated_remainder(left: Tensor, right: Tensor) -> Tensor:
    """fmod, by the remainder of two positive numbers, which is the same."""
    rest = torch.remainder(left.abs(), right.abs())
    return torch.where(left < 0, -rest, rest)


def floor_quotient(left: Tensor, right: Tensor) -> Tensor:
    """
    What is left without the remainder is divisible but for a rounding.

    As c10::div_floor_floating: floor(left / right) is one too many where the quotient rounds up.
    """
    rest = truncated_remainder(left, right)
    across = (rest != 0) & ((rest < 0) != (right < 0))
    quotient = (left - rest) / right
    quotient = torch.where(across, quotient - 1, quotient)
    floor = torch.floor(quotient)
    floor = torch.where(quotient - floor > 0.5, floor + 1, floor)
    return torch.where(right == 0, left / right, floor)


def divided(left: Tensor, right: Tensor | float, *, rounding_mode: str | None = None) -> Any:
    return FLOOR(left, right) if rounding_mode == "floor" else NotImplemented


FLOOR = of_floats(floor_quotient, rounded=False)
FMOD = of_floats(truncated_remainder, rounded=True)


def remainder_of_number(source: Tensor, divisor: float) -> Any:
    if source.is_floating_point() or not isinstance(divisor, int):
        return FMOD(source, divisor)
    return source - torch.div(source, divisor, rounding_mode="trunc") * divisor


def power(source: Tensor, exponent: float) -> Any:
    """
    x**n of integers by repeated products, which wrap as the power does.

    Of floats the powers 0.5 and -0.5, which of minus infinity are NaN as its root is.
    """
    if source.is_complex():
        return NotImplemented
    if source.is_floating_point():
        roots = {0.5: torch.sqrt, -0.5: torch.rsqrt}
        return roots[exponent](source) if exponent in roots else NotImplemented
    if type(exponent) is not int or exponent not in (2, 3, 4):  # the power of 2.0 is a float
        return NotImplemented
    source = source.to(torch.result_type(source, exponent))  # bool's is an integer
    product = source
    for _ in range(exponent - 1):
        product = product * source
    return product


DIVISION: dict[OpOverload, Callable[..., Any]] = {
    aten.div.Scalar_mode: divided,
    aten.div.Tensor_mode: divided,
    aten.floor_divide.default: FLOOR,
    aten.floor_divide.Scalar: FLOOR,
    aten.fmod.Scalar: remainder_of_number,
    aten.fmod.Tensor: FMOD,
    aten.pow.Tensor_Scalar: power,
}

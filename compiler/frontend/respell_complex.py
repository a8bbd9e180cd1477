"""Other spellings for arithmetic on complex tensors, by their real and imaginary parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

aten = torch.ops.aten


def of_complex(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    """An op of one complex operand as a function of its two parts."""

    def respelled(source: Tensor) -> Any:
        if not source.is_complex():
            return NotImplemented
        return function(*torch.view_as_real(source).unbind(-1))

    return respelled


def of_parts(real: Tensor, imag: Tensor) -> Any:
    """By a view: torch's own shape rule for this op takes dynamic sizes for fixed ones."""
    if all(isinstance(size, int) for size in (*real.shape, *imag.shape)):
        return NotImplemented
    return torch.view_as_complex(torch.stack(torch.broadcast_tensors(real, imag), -1))


def exponential(real: Tensor, imag: Tensor) -> Tensor:
    size = real.exp()
    return torch.complex(size * imag.cos(), size * imag.sin())


def angle(source: Tensor) -> Any:
    if source.is_complex():
        return torch.atan2(*torch.view_as_real(source).unbind(-1)[::-1])
    if not source.is_floating_point():
        return NotImplemented
    return torch.where(source.isnan(), source, torch.where(source < 0, torch.pi, 0.0))


def with_complex_number(op: OpOverload) -> Callable[..., Any]:
    """x + 2j: the importer has complex tensors and no complex numbers."""

    def respelled(left: Tensor, right: Any, **more: Any) -> Any:
        if not isinstance(right, complex):
            return NotImplemented
        dtype = torch.float64 if left.dtype in (torch.complex128, torch.float64) else torch.float32
        parts = (torch.full((), part, dtype=dtype) for part in (right.real, right.imag))
        return op(left, torch.complex(*parts), **more)

    return respelled


COMPLEX: dict[OpOverload, Callable[..., Any]] = {
    aten._conj.default: of_complex(lambda real, imag: torch.complex(real, -imag)),
    aten.abs.default: of_complex(torch.hypot),
    aten.add.Tensor: with_complex_number(aten.add.Tensor),
    aten.angle.default: angle,
    aten.complex.default: of_parts,
    aten.conj_physical.default: of_complex(lambda real, imag: torch.complex(real, -imag)),
    aten.div.Tensor: with_complex_number(aten.div.Tensor),
    aten.exp.default: of_complex(exponential),
    aten.mul.Tensor: with_complex_number(aten.mul.Tensor),
    aten.sub.Tensor: with_complex_number(aten.sub.Tensor),
}

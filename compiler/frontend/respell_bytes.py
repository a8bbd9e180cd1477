"""
Ops on unsigned bytes by ops on 64-bit integers.

torch-mlir lowers most ops on uint8, the type of images, as if bytes were signed, and crashes in
others. Wide integers hold every byte, and what wraps is the same modulo 256, so results that torch
gives as bytes are cut to bytes at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

aten = torch.ops.aten
BINARY = (
    "add", "div", "eq", "floor_divide", "fmod", "ge", "gt", "le", "lt", "maximum", "minimum",
    "mul", "ne", "pow", "remainder", "rsub", "sub",
)  # fmt: skip
"""Integer results have the type that both operands promote to."""
UNARY = (
    "abs", "amax", "amin", "clamp", "clamp_max", "clamp_min", "cummax", "cummin", "erf", "exp",
    "floor", "kthvalue", "log", "log10", "log2", "max", "median", "min", "msort", "neg", "relu",
    "rsqrt", "sigmoid", "sign", "sin", "cos", "sort", "sqrt", "square", "tan", "tanh", "topk",
)  # fmt: skip
"""Integer results, the first of several, have the type of the operand."""
WIDE = ("argmax", "argmin", "argsort", "cumprod", "cumsum", "mean", "prod", "sum")
"""Integer results are of 64 bits in torch as well."""


def overloads(name: str) -> Iterator[OpOverload]:
    """The functional ones of an op on tensors."""
    packet = getattr(aten, name)
    for each in packet.overloads():
        op = getattr(packet, each)
        takes = any(isinstance(given.type, torch.TensorType) for given in op._schema.arguments[:2])
        if takes and not op._schema.is_mutable and "out" not in each:
            yield op


def in_wide_integers(
    op: OpOverload, operands: int, otherwise: Callable[..., Any] | None
) -> Callable[..., Any]:
    """`operands` decide the type of integer results; 0 leaves them as they are."""

    def respelled(*args: Any, **kwargs: Any) -> Any:
        if not any(_is_bytes(each) for each in (*args, *kwargs.values())):
            return NotImplemented if otherwise is None else otherwise(*args, **kwargs)
        wide = {name: _widened(each) for name, each in kwargs.items()}
        made = op(*map(_widened, args), **wide)
        if not operands:
            return made
        kind = torch.result_type(*args[:2]) if operands == 2 else args[0].dtype
        if isinstance(made, tuple):
            return (_cut(made[0], kind), *made[1:])
        return _cut(made, kind)

    return respelled


def _is_bytes(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.dtype == torch.uint8


def _widened(argument: Any) -> Any:
    return argument.long() if _is_bytes(argument) else argument


def _cut(result: Tensor, kind: torch.dtype) -> Tensor:
    """Comparisons and fractions stay what they are."""
    return result.to(kind) if result.dtype == torch.int64 != kind else result


def on_bytes(known: dict[OpOverload, Callable[..., Any]]) -> dict[OpOverload, Callable[..., Any]]:
    """Respellings of all these ops; of other types they are `known` ones."""
    groups = ((BINARY, 2), (UNARY, 1), (WIDE, 0))
    return {
        op: in_wide_integers(op, operands, known.get(op))
        for names, operands in groups
        for name in names
        for op in overloads(name)
    }

"""
What a graph read from a file may call: listed ATen operators and arithmetic on sizes.

A target is looked up in fixed tables; its text never reaches `getattr` chains over Python
modules, so no name in a file can reach anything else.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import torch

from ...dialects.errors import IntegrityError, UnsupportedError

_ATEN = re.compile(r"torch\.ops\.aten\.(?P<name>[A-Za-z0-9_]{1,80})\.(?P<overload>\w{1,80})\Z")

SIZE_OPERATORS: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{function.__name__}": function
        for function in (
            *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod),
            *(operator.truediv, operator.neg, operator.pos, operator.pow, operator.abs),
            *(operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge),
            *(operator.and_, operator.or_, operator.not_),
        )
    },
    "math.trunc": math.trunc,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "torch.sym_int": torch.sym_int,
    "torch.sym_float": torch.sym_float,
    "torch.sym_max": torch.sym_max,
    "torch.sym_min": torch.sym_min,
    "torch.sym_not": torch.sym_not,
    "torch.sym_ite": torch.sym_ite,
}
"""Functions of symbolic sizes by the name that torch.export writes."""


@cache
def allowed_aten() -> frozenset[str]:
    """The names of aten_operators.txt."""
    text = (
        resources.files(__package__ or __name__).joinpath("aten_operators.txt").read_text("utf-8")
    )
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return frozenset(name for line in lines for name in line.split())


def resolve_operator(target: str, where: str) -> Callable[..., Any]:
    """
    The function that `target` names; `where` is the user's line, for errors.

    Raises UnsupportedError for an operator that exists in torch but is not listed (higher-order
    operators, custom libraries, gradients), IntegrityError for anything else.
    """
    if target in SIZE_OPERATORS:
        return SIZE_OPERATORS[target]
    match = _ATEN.match(target)
    if match is None:
        raise _refused(target, where)
    name, overload = match["name"], match["overload"]
    base = name.removesuffix("_") if not name.startswith("__") else name
    if base not in allowed_aten() or overload.endswith("out"):
        raise _unsupported(target, where, "it is not in qcc's list of ATen operators")
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or overload not in packet.overloads():
        raise _unsupported(target, where, f"torch {torch.__version__} has no such overload")
    return getattr(packet, overload)


def _refused(target: str, where: str) -> IntegrityError | UnsupportedError:
    if target.startswith("torch.ops."):
        return _unsupported(target, where, "only plain ATen operators are read from a file")
    return IntegrityError(
        "pt2-target-refused",
        f"the graph calls {target[:120]!r}, which is not an operator",
        where=where,
        next_step="export the model again with torch.export.save; do not trust this copy",
    )


def _unsupported(target: str, where: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        "op-unsupported",
        f"the operator {target[:120]} is not supported",
        where=where,
        why=why,
        next_step="rewrite that line with plain tensor operators, or export the model with "
        "program.run_decompositions() before torch.export.save",
    )

"""Rules for numbers that a whole warp shares: where blocks and warps begin, and what follows."""

from __future__ import annotations

from typing import Any

from .printer import bare, grouped
from .warp_scalar_rules import constant, expression
from .warp_text import REGISTER_TYPES, WarpText


def number(text: WarpText, op: Any) -> None:
    """A number of the whole warp: short ones are written where they are used."""
    result = op.operation.results[0]
    if op.operation.name == "arith.constant":
        text.names[result] = constant(op)
        return
    value = expression(op, [text.name(each) for each in op.operation.operands])
    once = "label" not in op.operation.attributes and len(value) < 40
    if value.isdigit() or value.isidentifier() or once:
        text.names[result] = value if value.isidentifier() or value.isdigit() else grouped(value)
        return
    name = text.names[result] = text.label(op, "n")
    text.out.line(f"const {REGISTER_TYPES[str(result.type)]} {name} = {bare(value)};")

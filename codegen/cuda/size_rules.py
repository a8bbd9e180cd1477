"""Arithmetic of the host function on sizes, as rows of a size table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...dialects.bindings import ir
from .size_table import SizeTable

SizeRule = Callable[[SizeTable, Any, list[int]], int]

# Sizes are not negative: signed and unsigned operations agree.
OPERATION = {
    "addi": "add", "subi": "sub", "muli": "mul",
    "divui": "floordiv", "divsi": "floordiv", "floordivsi": "floordiv",
    "ceildivui": "ceildiv", "ceildivsi": "ceildiv", "remui": "mod", "remsi": "mod",
    "minui": "min", "minsi": "min", "maxui": "max", "maxsi": "max",
    "andi": "and", "ori": "or", "xori": "xor", "select": "select",
}  # fmt: skip
UNCHANGED = ("index_cast", "index_castui", "extsi", "extui", "trunci")
PREDICATES = ("eq", "ne", "lt", "le", ">", ">=", "lt", "le", ">", ">=")  # of arith.cmpi, by number


def _compare(table: SizeTable, op: Any, operands: list[int]) -> int:
    name = PREDICATES[ir.IntegerAttr(op.operation.attributes["predicate"]).value]
    if name.startswith(">"):
        return table.of("le" if name == ">=" else "lt", *operands[::-1])
    return table.of(name, *operands)


def _plain(name: str) -> SizeRule:
    return lambda table, op, operands: table.of(name, *operands)


SIZE_RULES: dict[str, SizeRule] = {
    "arith.cmpi": _compare,
    **{f"arith.{name}": _plain(of) for name, of in OPERATION.items()},
    **{f"arith.{name}": lambda table, op, operands: operands[0] for name in UNCHANGED},
}
"""By op: from the rows of its operands to that of its result."""

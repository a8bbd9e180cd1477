"""
Spell exponentials of floats as arithmetic.

    math.exp %x : f32   =>   a polynomial and powers of two

Within two units in the last place. Inside a loop, a call of the C library keeps LLVM from
computing several elements at a time; arithmetic does not.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...dialects.bindings import Operation, ir
from ...dialects.regions import walk
from .emit import Val
from .vector_math import whole_exponential


def expand_exponentials(module: ir.Module) -> None:
    for op in list(_exponentials(module.operation)):
        with ir.InsertionPoint(op), op.location:
            op.results[0].replace_all_uses_with(whole_exponential(Val(op.operands[0])).ssa)
        op.erase()


def _exponentials(op: Operation) -> Iterator[Operation]:
    inside = (child.operation for child in walk(op))
    return (child for child in inside if child.name == "math.exp" and _is_float(child))


def _is_float(op: Operation) -> bool:
    return isinstance(op.results[0].type, ir.F32Type)

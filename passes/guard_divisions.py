"""
Divisions of integers that no processor ends a process for.

    %q = arith.divsi %a, %b    =>   %q = 0 where %b is 0, -%a where it is -1, else %a / %b

A division by zero raises in torch; kernels have no exceptions, and give 0. The least integer over
-1 wraps, as other integer arithmetic does. Only what is computed for elements is guarded: sizes are
divided by what a shape cannot have as zero.
"""

from __future__ import annotations

from ..dialects.bindings import Operation, arith, ir
from ..dialects.regions import walk
from .torch_constants import producer

SIGNED = {"arith.divsi", "arith.floordivsi", "arith.ceildivsi", "arith.remsi"}
DIVISIONS = SIGNED | {"arith.divui", "arith.ceildivui", "arith.remui"}


def guard_divisions(module: Operation) -> None:
    elementwise = (op for op in walk(module) if op.operation.name == "linalg.generic")
    found = [
        op.operation
        for body in elementwise
        for op in body.operation.regions[0].blocks[0].operations
        if op.operation.name in DIVISIONS and not _harmless(op.operation.operands[1])
    ]
    for op in found:
        _guard(op)


def _harmless(divisor: ir.Value) -> bool:
    constant = producer(divisor)
    if constant is None or constant.name != "arith.constant":
        return False
    return ir.IntegerAttr(constant.attributes["value"]).value not in (0, -1)


def _guard(op: Operation) -> None:
    left, divisor = op.operands
    kind = divisor.type
    with ir.InsertionPoint(op), op.location:
        zero, one = arith.constant(kind, 0), arith.constant(kind, 1)
        known = [(arith.cmpi(arith.CmpIPredicate.eq, divisor, zero), zero)]
        if op.name in SIGNED:
            minus_one = arith.cmpi(arith.CmpIPredicate.eq, divisor, arith.constant(kind, -1))
            negated = zero if op.name == "arith.remsi" else arith.subi(zero, left)
            known.append((minus_one, negated))
        safe = divisor
        for holds, _ in known:
            safe = arith.select(holds, one, safe)
        result = Operation.create(op.name, results=[kind], operands=[left, safe]).result
        for holds, value in known:
            result = arith.select(holds, value, result)
    op.results[0].replace_all_uses_with(result)
    op.erase()

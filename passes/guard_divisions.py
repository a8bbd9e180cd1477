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
        by_zero = arith.cmpi(arith.CmpIPredicate.eq, divisor, zero)
        trivial = by_zero
        if op.name in SIGNED:
            by_minus_one = arith.cmpi(arith.CmpIPredicate.eq, divisor, arith.constant(kind, -1))
            trivial = arith.ori(by_zero, by_minus_one)
        safe = arith.select(trivial, one, divisor)
        result = Operation.create(op.name, results=[kind], operands=[left, safe]).result
        if op.name == "arith.remsi":
            result = arith.select(trivial, zero, result)
        else:
            if op.name in SIGNED:
                result = arith.select(by_minus_one, arith.subi(zero, left), result)
            result = arith.select(by_zero, zero, result)
    op.results[0].replace_all_uses_with(result)
    op.erase()

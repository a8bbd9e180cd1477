"""
Long lists of calls are not optimized.

    llvm.func @main { one block of hundreds of calls }   =>   … {passthrough = ["optnone", …]}

Exact: it is the same program. A model's main function calls kernels and loops, which are functions
of their own, one after another. LLVM took four fifths of a build to optimize that list, which takes
microseconds to go through.
"""

from __future__ import annotations

from ...dialects.bindings import ir

LONG = 100
"""Calls of a function."""


def leave_straight_code(module: ir.Module) -> None:
    for op in module.body.operations:
        function = op.operation
        if function.name == "llvm.func" and _has_many_calls(function):
            words = [ir.StringAttr.get(each) for each in ("optnone", "noinline")]
            function.attributes["passthrough"] = ir.ArrayAttr.get(words)


def _has_many_calls(function: ir.Operation) -> bool:
    blocks = list(function.regions[0].blocks)
    if len(blocks) != 1:
        return False
    return sum(op.operation.name == "llvm.call" for op in blocks[0].operations) >= LONG

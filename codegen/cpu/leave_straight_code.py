"""
Lists of calls are not optimized.

    llvm.func @main { one block of calls }   =>   … {passthrough = ["optnone", …]}

Exact: it is the same program. A main function calls kernels and loops, which are functions of their
own, one after another, and so do launchers. LLVM took four fifths of the build of a large model to
optimize its list, which takes microseconds to go through.
"""

from __future__ import annotations

from ...dialects.bindings import ir


def leave_straight_code(module: ir.Module) -> None:
    for op in module.body.operations:
        function = op.operation
        if function.name == "llvm.func" and _only_calls(function):
            words = [ir.StringAttr.get(each) for each in ("optnone", "noinline")]
            function.attributes["passthrough"] = ir.ArrayAttr.get(words)


def _only_calls(function: ir.Operation) -> bool:
    blocks = list(function.regions[0].blocks)
    return len(blocks) == 1 and any(op.operation.name == "llvm.call" for op in blocks[0].operations)

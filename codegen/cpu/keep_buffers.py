"""
Let calls use their large buffers again, and free the most when one ends.

    dealloc %a; …; return   =>   dealloc %a; …; qcc_trim_kept(); return

Frees go to the functions of memory.mlir, which keep large buffers for the allocations that follow.
"""

from __future__ import annotations

from ...dialects.bindings import Operation, ir, llvm

TRIM_KEPT = "qcc_trim_kept"


def keep_buffers(module: ir.Module) -> None:
    for op in module.body.operations:
        function = op.operation
        if function.name == "func.func" and "sym_visibility" not in function.attributes:
            for region in function.regions:
                for block in region.blocks:
                    _trim_before_return(block)


def _trim_before_return(block: ir.Block) -> None:
    last: Operation = list(block.operations)[-1].operation
    if last.name == "func.return":
        with ir.InsertionPoint(last), last.location:
            llvm.call(None, [], [], [], callee=TRIM_KEPT)

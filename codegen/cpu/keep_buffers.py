"""
Let a call use its large buffers again, and free them when it ends.

    dealloc %a; …; return   =>   dealloc %a; …; qcc_free_kept(); return

Frees go to the functions of memory.mlir, which keep large buffers for the allocations that follow.
"""

from __future__ import annotations

from ...dialects.bindings import Operation, ir, llvm

FREE_KEPT = "qcc_free_kept"


def keep_buffers(module: ir.Module) -> None:
    for op in module.body.operations:
        function = op.operation
        if function.name == "func.func" and "sym_visibility" not in function.attributes:
            for region in function.regions:
                for block in region.blocks:
                    _free_before_return(block)


def _free_before_return(block: ir.Block) -> None:
    last: Operation = list(block.operations)[-1].operation
    if last.name == "func.return":
        with ir.InsertionPoint(last), last.location:
            llvm.call(None, [], [], [], callee=FREE_KEPT)

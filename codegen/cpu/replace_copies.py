"""
Spell buffer copies as linalg.

    memref.copy %a, %b   =>   linalg.copy ins(%a) outs(%b)

Exact. A strided memref.copy would lower to a call into MLIR's C runtime, which a compiled object
does not carry; linalg becomes loops like everything else.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...dialects.bindings import Operation, ir, linalg
from ...dialects.regions import walk


def replace_copies(module: ir.Module) -> None:
    for copy in list(_copies(module.operation)):
        with ir.InsertionPoint(copy), copy.location:
            source, target = copy.operands
            linalg.copy(source, outs=[target])
        copy.erase()


def _copies(op: Operation) -> Iterator[Operation]:
    return (child.operation for child in walk(op) if child.operation.name == "memref.copy")

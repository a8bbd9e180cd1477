"""
Let a call return where the system refuses it memory.

    func @_mlir_ciface_main(…) { … }
      =>
    func @guarded_main(…) { … }
    func @_mlir_ciface_main(…) { if (_setjmp(memory_escape) == 0) guarded_main(…) }

Allocations are of the thread that calls, between kernels, so that one that is refused can leave by
`longjmp` (memory.mlir). Without this, code would write to the address 0.
"""

from __future__ import annotations

from ...dialects.bindings import ir

ENTRY, GUARDED = "_mlir_ciface_", "guarded_"


def guard_memory(module: ir.Module) -> None:
    """On a module in the LLVM dialect, with memory.mlir, whose entries take addresses alone."""
    entries = [op for op in module.body.operations if _name(op).startswith(ENTRY)]
    for number, op in enumerate(entries):
        name, inner = _name(op), GUARDED + _name(op).removeprefix(ENTRY)
        op.attributes["sym_name"] = ir.StringAttr.get(inner)
        made = ir.Module.parse(
            _guard(name, inner, len(op.operation.regions[0].blocks[0].arguments)), module.context
        )
        for each in list(made.body.operations)[number > 0 : 2]:
            each.operation.clone(ip=ir.InsertionPoint(module.body))


def _guard(name: str, inner: str, count: int) -> str:
    """The declaration of _setjmp and the guard, behind them what they refer to."""
    parameters = ", ".join(f"%{index}: !llvm.ptr" for index in range(count))
    arguments = ", ".join(f"%{index}" for index in range(count))
    types = ", ".join(["!llvm.ptr"] * count)
    return f"""
    llvm.func @_setjmp(!llvm.ptr) -> i32 attributes {{passthrough = ["returns_twice"]}}
    llvm.func @{name}({parameters}) attributes {{no_inline, optimize_none}} {{
      %escape = llvm.mlir.addressof @memory_escape : !llvm.ptr
      %zero = llvm.mlir.constant(0 : i32) : i32
      %status = llvm.call @_setjmp(%escape) : (!llvm.ptr) -> i32
      %first = llvm.icmp "eq" %status, %zero : i32
      llvm.cond_br %first, ^call, ^leave
    ^call:
      llvm.call @{inner}({arguments}) : ({types}) -> ()
      llvm.br ^leave
    ^leave:
      llvm.return
    }}
    llvm.func @{inner}({types})
    llvm.mlir.global internal @memory_escape() : !llvm.array<32 x i64>"""


def _name(op: ir.OpView) -> str:
    return ir.StringAttr(op.attributes["sym_name"]).value if "sym_name" in op.attributes else ""

"""
The kernels of one compiled object: each is emitted once and launched over the thread pool.

A kernel is a body `@name.body(arguments, begin, end)` over a range of tiles, and a launcher
`@name(a0, a1, …, total, grain)` that stores the i64 arguments into slots and hands the body to
the pool. Two ops with the same key share one kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from ...dialects.bindings import builtin, func, ir, llvm
from ...dialects.cpu.schedule import SCRATCH_BYTES
from ...dialects.errors import UnsupportedError
from .emit import Ptr, Val, f32, i64, maximum, pointer, select, size

# The most chunks of a job; the pool makes fewer where it has fewer than 32 threads.
GRAINS = 256
# Multiply-adds that one thread does in less time than it takes to wake another.
SMALL = 1 << 18
BODY = ".body"
"""What the names of bodies end with."""

Body = Callable[["Arguments", Val, Val], None]


@dataclass(frozen=True, slots=True)
class Arguments:
    """The argument slots inside a kernel body."""

    slots: Ptr

    def integer(self, index: int) -> Val:
        return self.slots.at(index).load()

    def address(self, index: int, element: ir.Type) -> Ptr:
        address = llvm.inttoptr(pointer(), self.integer(index).ssa)
        return Ptr(address, element)


class KernelLibrary:
    """
    Kernels, constant tables and the thread pool, in a module of their own.

    `features` are those of the processor, as LLVM names them, that kernels may use by name.

    The main module only declares the launchers until `link` brings the kernels in: kernels are
    written in terms of addresses, which the passes over the main function need not see.
    """

    def __init__(self, main: ir.Module, features: frozenset[str]) -> None:
        self.features = features
        self._main = main
        self._module = ir.Module.create()
        self._launchers: dict[str, str] = {}
        self._tables: dict[tuple[float, ...], str] = {}
        self._constants: dict[tuple[float, ...], str] = {}
        splice("threads.mlir", self._module)
        splice("parameters.mlir", main)
        splice("memory.mlir", main)

    def launcher(self, key: str, arguments: int, emit: Body) -> str:
        """The name of the launcher of kernel `key`, emitting its body the first time."""
        if key not in self._launchers:
            name = f"kernel_{len(self._launchers)}"
            self._emit_body(name, emit)
            self._emit_launcher(name, arguments)
            self._launchers[key] = name
        return self._launchers[key]

    @property
    def functions(self) -> frozenset[str]:
        """The names of launchers and bodies."""
        return frozenset(n for name in self._launchers.values() for n in (name, f"{name}{BODY}"))

    def link(self) -> None:
        """Move the kernels into the main module, in place of their declarations."""
        for op in list(self._main.body.operations):
            if op.operation.name == "func.func" and _name(op) in self._launchers.values():
                op.operation.erase()
        anchor = ir.InsertionPoint.at_block_begin(self._main.body)
        for op in self._module.body.operations:
            op.operation.clone(ip=anchor)

    def table(self, values: list[float]) -> Ptr:
        """The address, inside a kernel, of a constant fp32 table shared by equal tables."""
        return _constant(self._tables, "table", values, self._module)

    def constants(self, values: list[float]) -> Ptr:
        """The same inside the main function."""
        return _constant(self._constants, "constants", values, self._main)

    def _emit_body(self, name: str, emit: Body) -> None:
        type_ = ir.FunctionType.get([pointer(), i64(), i64()], [])
        with ir.InsertionPoint(self._module.body):
            body = func.FuncOp(f"{name}{BODY}", type_, visibility="private")
        block = body.add_entry_block()
        with ir.InsertionPoint(block):
            slots, begin, end = block.arguments
            emit(Arguments(Ptr(slots, i64())), Val(begin), Val(end))
            func.return_([])

    def _emit_launcher(self, name: str, arguments: int) -> None:
        type_ = ir.FunctionType.get([i64()] * (arguments + 2), [])
        with ir.InsertionPoint(self._main.body):
            func.FuncOp(name, type_, visibility="private")
        with ir.InsertionPoint(self._module.body):
            launcher = func.FuncOp(name, type_, visibility="private")
        block = launcher.add_entry_block()
        with ir.InsertionPoint(block):
            slots = Ptr(llvm.alloca(pointer(), size(max(1, arguments)).ssa, i64()), i64())
            for index in range(arguments):
                slots.at(index).store(Val(block.arguments[index]))
            body = function_address(f"{name}{BODY}")
            total, grain = block.arguments[arguments], block.arguments[arguments + 1]
            llvm.call(
                None,
                [body, slots.ssa, total, grain],
                [],
                [],
                callee="qcc_parallel_for",
            )
            func.return_([])


def _constant(
    known: dict[tuple[float, ...], str], stem: str, values: list[float], module: ir.Module
) -> Ptr:
    """The address of a global of `module` that holds `values`, made where none of `known` does."""
    key = tuple(values)
    if key not in known:
        known[key] = f"{stem}_{len(known)}"
        body = ", ".join(repr(float(value)) for value in values)
        text = (
            f"llvm.mlir.global internal constant @{known[key]}(dense<[{body}]> : "
            f"tensor<{len(values)}xf32>) {{alignment = 64 : i64}} : "
            f"!llvm.array<{len(values)} x f32>"
        )
        _splice_text(text, module)
    return Ptr(llvm.mlir_addressof(pointer(), known[key]), f32())


def splice(file: str, module: ir.Module) -> None:
    """Put the ops of an .mlir file of this folder at the head of `module`."""
    _splice_text((files(__package__ or "") / file).read_text(), module)


def _splice_text(text: str, module: ir.Module) -> None:
    anchor = ir.InsertionPoint.at_block_begin(module.body)
    for op in ir.Module.parse(text, module.context).body.operations:
        op.operation.clone(ip=anchor)


def _name(op: ir.OpView) -> str:
    return ir.StringAttr(op.attributes["sym_name"]).value


def function_address(name: str) -> ir.Value:
    """`@name.body` as a pointer."""
    type_ = ir.FunctionType.get([pointer(), i64(), i64()], [])
    symbol = func.ConstantOp(type_, ir.FlatSymbolRefAttr.get(name)).result
    return builtin.unrealized_conversion_cast([pointer()], [symbol])


def grain_of(total: Val, work: Val | None = None) -> Val:
    """The least worth handing to a thread: all of it where the job's multiply-adds are few."""
    grain = maximum(total // GRAINS, size(1))
    return grain if work is None else select(work.compare("gt", SMALL), grain, total)


def fits_scratch(floats: int) -> bool:
    return 4 * floats <= SCRATCH_BYTES


def scratch(count: int | Val) -> Ptr:
    """
    `count` floats on the stack of the calling thread, aligned to a cache line.

    Raises UnsupportedError beyond SCRATCH_BYTES: a stack that overflows ends the process.
    """
    if isinstance(count, int) and not fits_scratch(count):
        raise UnsupportedError(
            "cpu-scratch",
            f"a kernel would keep {4 * count} bytes on the stack of a thread",
            why=f"it may keep {SCRATCH_BYTES}; what it keeps grows with the rows of a weight, or "
            "with the heads of an attention",
            next_step="split the layer's inputs",
        )
    amount = count if isinstance(count, Val) else size(count)
    return Ptr(llvm.alloca(pointer(), amount.ssa, f32(), alignment=64), f32())

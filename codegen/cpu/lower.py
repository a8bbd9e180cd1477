"""
qcc + linalg on tensors → LLVM dialect, for the CPU.

The order: fuse elementwise linalg, hand qcc ops to kernels, bufferize, free every buffer after
its last use, turn the remaining linalg into loops, compute half precision in fp32, lower to LLVM.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ...dialects.bindings import Operation, ir
from ...dialects.errors import UnsupportedError
from ...dialects.pipeline import FUSE, run_passes
from ...dialects.regions import walk
from ...dialects.source_line import source_line
from .build import LOOKED_UP
from .call_site import CallSite
from .convert_qcc_to_kernels import convert_qcc_to_kernels
from .expand_exponentials import expand_exponentials
from .guard_memory import guard_memory
from .hoist_deallocations import hoist_deallocations
from .keep_buffers import keep_buffers
from .leave_straight_code import leave_straight_code
from .library import BODY
from .limit_results import limit_results
from .outline_loops import LOOP_NAMES, outline_loops
from .own_results import own_results
from .replace_copies import replace_copies

# No CSE before this: it would merge the reads of one tensor by two kernels into the earlier one,
# and bufferization could then reuse the buffer in between.
BUFFERIZE = (
    "one-shot-bufferize{bufferize-function-boundaries=1 "
    "function-boundary-type-conversion=identity-layout-map "
    "unknown-type-conversion=identity-layout-map},"
    "func.func(canonicalize,cse),buffer-deallocation-pipeline,convert-bufferization-to-memref"
)
LOOPS = "func.func(tm-tensor-to-loops,convert-linalg-to-loops,canonicalize,cse)"
# LLVM would call functions of a C runtime for what bf16 and fp16 lack, and no process has all.
HALVES = (
    "func.func(math-extend-to-supported-types{target-type=f32},"
    "arith-emulate-unsupported-floats{source-types=bf16,f16 target-type=f32})"
)
CASTS = "func.func(arith-expand{include-bf16=true})"
# What kernels have none of, before they come in: each pass takes its time to look at all ops.
MAIN = (
    "expand-strided-metadata,lower-affine,convert-scf-to-cf,convert-complex-to-standard,"
    "convert-math-to-funcs{min-width-of-fpowi-exponent=33},convert-scf-to-cf,"
    "convert-math-to-llvm,convert-math-to-libm,convert-complex-to-llvm"
)
# Of functions that the runtime calls (runtime.py).
CALLED = ("qcc_", "_mlir_ciface_")
# What kernels and the main function are left with. Buffers apart, since they ask for functions.
LLVM = (
    "convert-scf-to-cf,convert-vector-to-llvm,finalize-memref-to-llvm{use-generic-functions=1},"
    "convert-to-llvm,reconcile-unrealized-casts"
)


def lower_to_llvm(module: ir.Module, features: Iterable[str] | None = None) -> CallSite:
    """
    Lower `module` in place; the site names the parameters and caches its tables expect.

    `features` are the instruction sets that kernels may name: those of this processor, or fewer.
    """
    _give_entry_a_c_interface(module)
    limit_results(module)
    run_passes(module, FUSE, "cpu")
    site = convert_qcc_to_kernels(module, features)
    own_results(module)
    run_passes(module, "func.func(tm-tensor-bufferize)", "cpu")
    _promise_distinct_buffers(module.operation)
    _read_where_used(module.operation)
    run_passes(module, BUFFERIZE, "cpu")
    hoist_deallocations(module)
    replace_copies(module)
    keep_buffers(module)
    outline_loops(module)
    run_passes(module, LOOPS, "cpu")
    run_passes(module, HALVES, "cpu")
    _keep_roundings(module)
    run_passes(module, CASTS, "cpu")
    expand_exponentials(module)
    run_passes(module, MAIN, "cpu")
    site.library.link()
    module.operation.verify()
    run_passes(module, LLVM, "cpu")
    guard_memory(module)
    _keep_private(module)
    leave_straight_code(module)
    refuse_remaining(module, site.library.functions)
    return site


def refuse_remaining(module: ir.Module, known: Collection[str] = ()) -> None:
    """Raise UnsupportedError for the first op, outside functions `known`, that is not LLVM's."""
    unknown = [op for op in module.body.operations if _symbol(op) not in known]
    for op in (each.operation for outer in unknown for each in (outer, *walk(outer))):
        if not op.name.startswith(("llvm.", "builtin.module")):
            raise UnsupportedError(
                "cpu-lowering",
                f"{op.name} has no code for the CPU",
                where=source_line(op.location),
                next_step="write this part of the model with other ops",
            )


def _keep_roundings(module: ir.Module) -> None:
    """
    Casts of emulated half precision allow contraction, which drops a rounding with the cast back.

    The program says where it rounds, and the reference interpreter does so.
    """
    exact = ir.Attribute.parse("#arith.fastmath<none>")
    for op in walk(module.operation):
        if op.operation.name in ("arith.extf", "arith.truncf"):
            op.operation.attributes["fastmath"] = exact


def _keep_private(module: ir.Module) -> None:
    """
    Give functions internal linkage, those that are called from outside an alias, and keep loops
    out of line; in kernels, which are written in vectors, look for no others.

    The engine that builds the object wraps each public function, but no alias, in another one:
    together these take as long as the pool of threads. A loop that is inlined at each of its calls
    takes most of the time of compilation, and its copies fall out of the instruction cache.
    """
    internal = ir.Attribute.parse("#llvm.linkage<internal>")
    no_more_vectors = ir.ArrayAttr.get([ir.StringAttr.get("noimplicitfloat")])
    for op in list(module.body.operations):
        function, name = op.operation, _symbol(op)
        if function.name != "llvm.func" or not function.regions[0].blocks:
            continue
        if name == LOOKED_UP:
            continue
        if function.attributes["linkage"] != internal and name.startswith(CALLED):
            _give_alias(module, name)
        function.attributes["linkage"] = internal
        if name.startswith(LOOP_NAMES):
            function.attributes["no_inline"] = ir.UnitAttr.get()
        if name.endswith(BODY):
            function.attributes["passthrough"] = no_more_vectors


def _give_alias(module: ir.Module, name: str) -> None:
    inner = f"{name}.code"
    ir.SymbolTable.replace_all_symbol_uses(name, inner, module.operation)
    ir.SymbolTable(module.operation)[name].attributes["sym_name"] = ir.StringAttr.get(inner)
    text = f"""llvm.mlir.alias external @{name} : !llvm.func<void ()> {{
      %code = llvm.mlir.addressof @{inner} : !llvm.ptr
      llvm.return %code : !llvm.ptr
    }}
    llvm.func @{inner}()"""
    named = ir.Module.parse(text, module.context)
    named.body.operations[0].operation.clone(ip=ir.InsertionPoint(module.body))


def _symbol(op: ir.OpView) -> str:
    named = op.operation.attributes
    return ir.StringAttr(named["sym_name"]).value if "sym_name" in named else ""


def _give_entry_a_c_interface(module: ir.Module) -> None:
    """Public functions are callable with pointers to buffer descriptors (`_mlir_ciface_*`)."""
    for op in module.body.operations:
        if op.operation.name == "func.func" and "sym_visibility" not in op.attributes:
            op.attributes["llvm.emit_c_interface"] = ir.UnitAttr.get()


def _promise_distinct_buffers(op: Operation) -> None:
    """
    Mark every `to_tensor` as the only tensor over its buffer.

    True of those that tm_tensor's own bufferization leaves: each wraps a buffer made for it.
    """
    for child in walk(op):
        if child.operation.name == "bufferization.to_tensor":
            child.operation.attributes["restrict"] = ir.UnitAttr.get()


def _read_where_used(op: Operation) -> None:
    """
    Put every `to_buffer` right before the op that reads the buffer.

    tm_tensor's own bufferization leaves it behind the tensor's definition. To one-shot-bufferize
    this is where the tensor is read for the last time, so it would reuse the buffer from there on.
    """
    for child in walk(op):
        if child.operation.name == "bufferization.to_buffer":
            _sink(child.operation)


def _sink(read: Operation) -> None:
    uses = [(use.owner.operation, use.operand_number) for use in read.results[0].uses]
    if all(reader.block == read.block for reader, _ in uses):
        for reader, index in uses:
            reader.operands[index] = read.clone(ip=ir.InsertionPoint(reader)).results[0]
        read.erase()

"""
Lower the torch ops that qcc does not own to linalg on tensors.

torch-mlir's decompositions and conversions do the work around the qcc ops; the bridges dissolve.
What remains in the torch dialect afterwards cannot be lowered, and `unlowered` names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..dialects.bindings import MLIRError, Operation, PassManager, arith, ir
from ..dialects.errors import UnsupportedError
from ..dialects.regions import walk
from ..dialects.source_line import source_line
from .explicit_views import explicit_views
from .guard_divisions import guard_divisions

SIMPLIFY = (
    "torchdynamo-export-to-torch-backend-pipeline"
    "{backend-legal-ops=aten.flatten.using_ints,aten.unflatten.int extra-library=}"
)
LOWER = (
    "func.func(torch-restructure-non-constant-axes,torch-fuse-quantized-ops,"
    "convert-torch-to-tmtensor,canonicalize,convert-torch-to-linalg,canonicalize,"
    "convert-torch-to-scf,convert-torch-to-arith,convert-torch-to-tensor),"
    "convert-torch-conversion-to-mlprogram,"
    "func.func(memref-expand,canonicalize,resolve-shaped-type-result-dims,cse),"
    "torch-func-backend-type-conversion,"
    "func.func(canonicalize,torch-finalizing-backend-type-conversion,canonicalize,cse)"
)

OPERATOR = re.compile(r'"torch\.operator".*name = "([^"]+)"')
ILLEGAL = re.compile(r"operation '([^']+)'")
OP = re.compile(r"'([a-z_]+\.[^']+)' op")
NOT_LOWERED = "op-unsupported"
# What torch-mlir asserts of every element of aten.reciprocal; 1 / 0 is infinite, as in torch.
OF_NO_ZERO = "unimplemented: tensor with zero element"


def lower_torch(module: Operation, _: object = None) -> None:
    # Before the simplification, which folds views by the same guess, and for those that it makes.
    explicit_views(module)
    # Recomposition, the last part of the simplification, makes ops that decompose in turn.
    _run(module, f"{SIMPLIFY},{SIMPLIFY}")
    explicit_views(module)
    _run(module, LOWER)
    _divide_by_zero(module)
    guard_divisions(module)
    _round_over_single(module)


def _divide_by_zero(op: Operation) -> None:
    """Erase the assertions that would end the process at a reciprocal of zero."""
    for child in walk(op):
        inner = child.operation
        if inner.name == "cf.assert" and _message(inner) == OF_NO_ZERO:
            inner.erase()


def _message(assertion: Operation) -> str:
    return ir.StringAttr(assertion.attributes["msg"]).value


def _round_over_single(op: Operation) -> None:
    """fp64 → half precision goes over fp32, as in torch; no processor has it in one step."""
    for child in walk(op):
        if isinstance(child, arith.TruncFOp):
            _round_twice(child)


def _round_twice(cast: arith.TruncFOp) -> None:
    narrow, wide = cast.out.type, cast.in_.type
    if isinstance(wide, ir.F64Type) and isinstance(narrow, ir.F16Type | ir.BF16Type):
        with ir.InsertionPoint(cast), cast.location:
            single = arith.truncf(ir.F32Type.get(), cast.in_)
            cast.out.replace_all_uses_with(arith.truncf(narrow, single))
        cast.operation.erase()


def _run(module: Operation, pipeline: str) -> None:
    try:
        PassManager.parse(f"builtin.module({pipeline})").run(module)
    except MLIRError as error:
        raise not_lowered(error, module) from error


def not_lowered(error: MLIRError, module: Operation | None = None) -> UnsupportedError:
    """
    What MLIR refuses to lower, with the line of the model that it came from.

    Where `module` is given, as the failed pass left it, a refused constant is told from the op
    that reads it.
    """
    first = next(iter(error.error_diagnostics), None)
    text = str(error) if first is None else first.message
    where = "" if first is None else source_line(first.location)
    named = OPERATOR.search(text) or ILLEGAL.search(text) or OP.search(text)
    name = named[1] if named else "an op"
    if module is not None and name.startswith(("torch.constant.", "torch.prim.")):
        # A constant stays because the op that reads it does.
        reader = next((op for op in unlowered(module) if ".aten." in op.name), None)
        if reader is not None:
            name, where = reader.name, source_line(reader.location)
    # That an op stays says no more than the refusal does, and shows the IR of it.
    why = "" if text.startswith("failed to legalize") else text.splitlines()[0]
    return _refusal(name, where, why)


def refuse_unlowered(module: Operation) -> None:
    """Raise the UnsupportedError for the first op that is still in a torch dialect."""
    for op in unlowered(module):
        raise _refusal(op.name, source_line(op.location), "")


def _refusal(name: str, where: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        NOT_LOWERED,
        f"{name} cannot be lowered",
        where=where,
        why=why,
        next_step="write this part of the model with other ops",
    )


def unlowered(module: Operation) -> Iterator[Operation]:
    """Ops of the torch dialects that are still there."""
    ops = (op.operation for op in walk(module))
    return (op for op in ops if op.name.startswith(("torch.", "torch_c.")))

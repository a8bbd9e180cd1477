"""
torch.export program → torch dialect, with parameters left outside the IR.

Every parameter and buffer becomes `qcc.param` with the name it has in the program, so that no
weight is ever read here and a model on the meta device imports like any other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._decomp import get_decompositions
from torch.export import ExportedProgram
from torch_mlir.extras.fx_importer import FxImporter, FxImporterHooks

from ...dialects import qcc
from ...dialects.bindings import Context, Operation, ir
from ...dialects.errors import UnsupportedError
from ...dialects.torch_types import builtin_tensor_type

ENTRY = "main"
UNROLLED = (
    torch.ops.aten.lstm.input,
    torch.ops.aten.gru.input,
    torch.ops.aten.rnn_tanh.input,
    torch.ops.aten.rnn_relu.input,
)


def import_program(program: ExportedProgram, context: Context) -> ir.Module:
    """
    A module whose function `main` computes the program's user outputs from its user inputs.

    Raises UnsupportedError, naming the op and the line of the model, when an op has no
    counterpart in the torch dialect.
    """
    program = _functional(program)
    importer = FxImporter(context=context, hooks=_ParametersStayOutside())
    with context, ir.Location.unknown():
        try:
            importer.import_program(program, func_name=ENTRY)
        except (NotImplementedError, TypeError, AssertionError, KeyError) as error:
            raise UnsupportedError(
                "import-failed",
                f"the program cannot be expressed in the torch dialect: {error}",
                where=_last_line_of(error),
                next_step="replace the op in the model, or export with run_decompositions()",
            ) from error
    return importer.module


class _ParametersStayOutside(FxImporterHooks):
    """Resolves parameters and buffers to `qcc.param`; small constants are inlined as usual."""

    def resolve_input(self, gni: Any, value: Any, info: Any) -> ir.Value:
        if info.store_producer_node is not None:
            raise UnsupportedError(
                "buffer-mutation",
                f"the model writes to its buffer '{info.input_spec.target}'",
                why="qcc compiles models without hidden state; caches are made by the compiler",
                next_step="pass the state in and out as an argument, or leave caching to qcc",
            )
        symbol = ir.StringAttr.get(info.input_spec.target)
        with ir.InsertionPoint(gni._b):
            parameter = qcc.ParamOp(symbol, builtin_tensor_type(info.ir_type))
            bridge = Operation.create(
                "torch_c.from_builtin_tensor",
                results=[info.ir_type],
                operands=[parameter.value],
            )
        return bridge.result


def _functional(program: ExportedProgram) -> ExportedProgram:
    """
    `program` in ops that import: without in-place ops, recurrent layers unrolled into steps.

    Anything else stays whole, both because qcc wants it so and because a general decomposition of
    a large program takes longer than compiling it.
    """
    targets = {node.target for node in program.graph.nodes if node.op == "call_function"}
    overloads = {target for target in targets if isinstance(target, torch._ops.OpOverload)}
    unrolled = get_decompositions([op for op in UNROLLED if op in overloads])
    if unrolled or any(op._schema.is_mutable for op in overloads):
        return program.run_decompositions(dict(unrolled))
    return program


def _last_line_of(error: BaseException) -> str:
    trace = getattr(error, "__notes__", None)
    return "; ".join(trace) if trace else ""

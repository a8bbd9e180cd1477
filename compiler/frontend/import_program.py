"""
torch.export program → torch dialect, with parameters left outside the IR.

Every parameter and buffer becomes `qcc.param` with the name it has in the program, so that no
weight is ever read here and a model on the meta device imports like any other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram
from torch_mlir.extras.fx_importer import FxImporter, FxImporterHooks

from ...dialects import qcc
from ...dialects.bindings import Context, Operation, ir
from ...dialects.errors import UnsupportedError
from ...dialects.torch_types import builtin_tensor_type
from .binding import has_values
from .decompose import decompose

ENTRY = "main"


def import_program(program: ExportedProgram, context: Context, thorough: bool = False) -> ir.Module:
    """
    A module whose function `main` computes the program's user outputs from its user inputs.

    `thorough` as for `decompose`. Raises UnsupportedError, naming the op and the line of the
    model, when an op has no counterpart in the torch dialect.
    """
    program = decompose(program, context, thorough)
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
        if value.is_complex():
            return _complex_literal(gni, value, info.input_spec.target)
        symbol = ir.StringAttr.get(info.input_spec.target)
        with ir.InsertionPoint(gni._b):
            parameter = qcc.ParamOp(symbol, builtin_tensor_type(info.ir_type))
            bridge = Operation.create(
                "torch_c.from_builtin_tensor",
                results=[info.ir_type],
                operands=[parameter.value],
            )
        return bridge.result

    def resolve_literal(self, gni: Any, literal: Any, info: Any) -> ir.Value | None:
        is_complex = isinstance(literal, torch.Tensor) and literal.is_complex()
        return _complex_literal(gni, literal, "a constant") if is_complex else None


def _complex_literal(gni: Any, tensor: torch.Tensor, name: str) -> ir.Value:
    """
    A complex tensor, such as a table of rotary angles, made from its real view.

    Neither stored tensors nor LLVM's constants have complex elements.
    """
    if not has_values(tensor):
        raise UnsupportedError(
            "complex-weights",
            f"'{name}' holds complex numbers that stand in a weight file",
            next_step="register its real view, torch.view_as_real(table), and make it complex "
            "in forward",
        )
    parts = gni._import_literal(torch.view_as_real(tensor.resolve_conj().detach()).contiguous())
    type_ = gni.fx_importer._cc.create_vtensor_type(tensor.dtype, tensor.size())
    with ir.InsertionPoint(gni._b):
        return Operation.create(
            "torch.aten.view_as_complex", results=[type_], operands=[parts]
        ).result


def _last_line_of(error: BaseException) -> str:
    trace = getattr(error, "__notes__", None)
    return "; ".join(trace) if trace else ""

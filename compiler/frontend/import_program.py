"""
torch.export program → torch dialect, with parameters left outside the IR.

Every parameter and buffer becomes `qcc.param` with the name it has in the program, so that no
weight is ever read here and a model on the meta device imports like any other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram
from torch_mlir.extras.fx_importer import FxImporter, FxImporterHooks, GraphNodeImporter

from ...dialects import qcc
from ...dialects.bindings import Context, Operation, ir
from ...dialects.errors import QccError, UnsupportedError
from ...dialects.torch_types import builtin_tensor_type
from ...passes.name_layers import READERS
from .binding import has_values
from .decompose import decompose
from .reasons import failed_node, line_of, name_of, refuse_higher_order

ENTRY = "main"
_IMPORTED_REGIONS = frozenset(
    name.removeprefix("_import_hop_")
    for name in dir(GraphNodeImporter)
    if name.startswith("_import_hop_")
)


def import_program(program: ExportedProgram, context: Context, thorough: bool = False) -> ir.Module:
    """
    A module whose function `main` computes the program's user outputs from its user inputs.

    `thorough` as for `decompose`. Raises UnsupportedError, naming the op and the line of the
    model, when an op has no counterpart in the torch dialect.
    """
    program = decompose(program, context, thorough)
    refuse_higher_order(program, _IMPORTED_REGIONS)
    importer = FxImporter(context=context, hooks=_ParametersStayOutside())
    with context, ir.Location.unknown():
        try:
            importer.import_program(program, func_name=ENTRY)
        except QccError:
            raise
        except Exception as error:
            node = failed_node(error)
            called = name_of(node) if node else "the program"
            raise UnsupportedError(
                "import-failed",
                f"{called} cannot be expressed in the torch dialect",
                where=line_of(node) if node else "",
                why="" if node else str(error)[:300],
                next_step="replace the op in the model, or export with run_decompositions()",
            ) from error
        shared = readers_of_shared_parameters(program)
        if shared:
            importer.module.operation.attributes[READERS] = ir.DictAttr.get(
                {
                    parameter: ir.ArrayAttr.get([ir.StringAttr.get(name) for name in readers])
                    for parameter, readers in shared.items()
                }
            )
    return importer.module


class _ParametersStayOutside(FxImporterHooks):
    """Resolves parameters and buffers to `qcc.param`; small constants are inlined as usual."""

    def resolve_input(self, gni: Any, value: Any, info: Any) -> ir.Value:
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


def readers_of_shared_parameters(program: ExportedProgram) -> dict[str, list[str]]:
    """The modules that read a parameter that several read, in the order of the graph."""
    found: dict[str, list[str]] = {}
    targets = {
        spec.arg.name: spec.target
        for spec in program.graph_signature.input_specs
        if spec.target is not None
    }
    for node in program.graph.nodes:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        for name in (source.name for source in node.all_input_nodes if source.name in targets):
            if stack:
                found.setdefault(targets[name], []).append(str(stack[-1][0]))
    return {name: readers for name, readers in found.items() if len(set(readers)) > 1}


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

"""Code for this processor from the IR that an artifact stores."""

from __future__ import annotations

from ..codegen.cpu.code import build_code
from ..codegen.cpu.program import Code
from ..dialects.bindings import ir
from ..dialects.context import make_context
from ..passes.assign_schedules import remove_schedules
from ..passes.select_view import ViewSelection, select_view


def rebuild(text: str, view: str | None = None) -> Code:
    """Compile the text of `model.mlir`, or a view of it, for the processor that runs this."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        remove_schedules(module.operation)  # they may count on what this processor lacks
        if view is not None:
            select_view(ViewSelection(view))(module.operation, None)
        return build_code(module)

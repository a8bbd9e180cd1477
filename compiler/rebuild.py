"""Code for this processor from the IR that an artifact stores."""

from __future__ import annotations

from ..codegen.cpu.code import build_code
from ..codegen.cpu.program import Code
from ..dialects.bindings import ir
from ..dialects.context import make_context


def rebuild(text: str) -> Code:
    """Compile the text of `model.mlir` for the processor that runs this."""
    with make_context(), ir.Location.unknown():
        return build_code(ir.Module.parse(text))

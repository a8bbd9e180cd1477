"""The one place that makes an MLIR context in which qcc's and torch's dialects are loaded."""

from . import pim, qcc, tile
from .bindings import Context, PassManager, ir, torch_dialect


def make_context() -> Context:
    """
    A fresh context with the torch, torch_c, tm_tensor, qcc, tile and pim dialects loaded.

    torch_c and tm_tensor are registered only as dependencies of conversion passes, and torch_c
    ops get a wrong name when made from Python before that. So an empty module is run through two
    such passes.
    """
    context = Context()
    torch_dialect.register_dialect(context)
    with context, ir.Location.unknown():
        load = "torch-func-backend-type-conversion,func.func(convert-torch-to-tmtensor)"
        PassManager.parse(f"builtin.module({load})").run(ir.Module.create().operation)
        qcc.Qcc.load()
        tile.Tile.load()
        pim.Pim.load()
    return context

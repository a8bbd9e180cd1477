"""The one place that makes an MLIR context in which qcc's and torch's dialects are loaded."""

from . import qcc
from .bindings import Context, PassManager, ir, torch_dialect


def make_context() -> Context:
    """
    A fresh context with the torch, torch_c and qcc dialects loaded.

    torch_c is registered only as a dependency of a conversion pass; its ops get a wrong name
    when made from Python before that, so an empty module is run through one such pass.
    """
    context = Context()
    torch_dialect.register_dialect(context)
    with context, ir.Location.unknown():
        load_torch_c = PassManager.parse("builtin.module(torch-func-backend-type-conversion)")
        load_torch_c.run(ir.Module.create().operation)
        qcc.Qcc.load()
    return context

"""From a module to a compiled program."""

from __future__ import annotations

from ...dialects.bindings import ir
from .build import build_object
from .lower import lower_to_llvm
from .program import Code


def build_code(module: ir.Module, entry: str = "main") -> Code:
    """Compile a copy of `module`, in the qcc dialect and linalg on tensors, for this processor."""
    # With locations, which errors name.
    text = module.operation.get_asm(enable_debug_info=True)
    copy = ir.Module.parse(text, module.context)
    results = tuple(
        (str(ir.RankedTensorType(type_).element_type), ir.RankedTensorType(type_).rank)
        for type_ in _function(copy, entry).type.results
    )
    site = lower_to_llvm(copy)
    return Code(
        build_object(copy), tuple(site.parameters.names), results, tuple(site.caches.all),
        tuple(site.device_calls),
    )  # fmt: skip


def _function(module: ir.Module, name: str):
    for op in module.body.operations:
        if (
            op.operation.name == "func.func"
            and ir.StringAttr(op.attributes["sym_name"]).value == name
        ):
            return op
    raise KeyError(name)

"""A compiled program for the CPU: the object, and what a caller must know to use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...dialects.bindings import ir
from .build import build_object
from .lower import lower_to_llvm


@dataclass(frozen=True, slots=True)
class Code:
    """
    `object` is a relocatable ELF file. `parts` are the stored tensors whose addresses it takes,
    in order; `results` the (element type, rank) of what its entry returns.
    """

    object: bytes
    parts: tuple[str, ...]
    results: tuple[tuple[str, int], ...]

    def as_json(self) -> dict[str, Any]:
        return {"parts": list(self.parts), "results": [list(result) for result in self.results]}


def build_code(module: ir.Module, entry: str = "main") -> Code:
    """Compile a copy of `module`, in the qcc dialect and linalg on tensors, for this processor."""
    copy = ir.Module.parse(module.operation.get_asm(), module.context)
    results = tuple(
        (str(ir.RankedTensorType(type_).element_type), ir.RankedTensorType(type_).rank)
        for type_ in _function(copy, entry).type.results
    )
    parts = lower_to_llvm(copy)
    return Code(build_object(copy), tuple(parts), results)


def _function(module: ir.Module, name: str):
    for op in module.body.operations:
        if (
            op.operation.name == "func.func"
            and ir.StringAttr(op.attributes["sym_name"]).value == name
        ):
            return op
    raise KeyError(name)

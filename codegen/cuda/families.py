"""
The families of kernels: the op that a kernel is, and what writes a source of such kernels.

The kernels of a family stand in one translation unit, `kernels/cuda/<family>.cu` of the artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...dialects.bindings import ir
from .emit import emit_source
from .emit_warps import emit_warps
from .groups import emit_groups
from .program import Source


@dataclass(frozen=True)
class Family:
    """`name` is that of the file; `emit` writes all its kernels as one text."""

    name: str
    emit: Callable[[Sequence[Any]], str]


FAMILIES = {
    "tile.group": Family("groups", emit_groups),
    "tile.kernel": Family("linear", emit_source),
    "tile.warp_kernel": Family("warps", emit_warps),
}


GROUP = "tile.group"
GROUP_ATTRIBUTE = "tile.schedule"


def symbol_of(op: Any) -> str:
    attributes = op.operation.attributes
    return ir.StringAttr(attributes["symbol" if "symbol" in attributes else "sym_name"]).value


def kind_of(op: Any) -> str:
    """The key of FAMILIES that a kernel has: its op's name, or GROUP of a function of linalg."""
    grouped = op.operation.name == "func.func" and GROUP_ATTRIBUTE in op.operation.attributes
    return GROUP if grouped else op.operation.name


def kernels_of(module: ir.Module) -> dict[str, Any]:
    """The kernels of a module by name."""
    return {symbol_of(op): op for op in module.body.operations if kind_of(op) in FAMILIES}


def emit_sources(module: ir.Module, used: set[str]) -> list[Source]:
    """The sources of the kernels that are named in `used`, by family."""
    sources: dict[str, Source] = {}
    for kind, family in FAMILIES.items():
        kernels = [
            op for name, op in kernels_of(module).items()
            if name in used and kind_of(op) == kind
        ]  # fmt: skip
        if kernels:
            names = tuple(map(symbol_of, kernels))
            sources[family.name] = Source(family.name, names, family.emit(kernels))
    return [sources[name] for name in sorted(sources)]

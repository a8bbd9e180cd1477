"""Fused groups to CUDA C++: each thread computes neighbouring elements, or shares a row."""

from collections.abc import Sequence
from typing import Any

from ...dialects.tile.group import GroupSchedule
from .element_groups import ElementGroup
from .emit import PRELUDE
from .printer import Printer
from .row_groups import RowGroup


def emit_groups(kernels: Sequence[Any]) -> str:
    """One translation unit of `tile.group` ops."""
    out = Printer()
    out.line(PRELUDE)
    out.line()
    out.line("namespace qcc {")
    for kernel in kernels:
        out.line()
        emitter = RowGroup if GroupSchedule.of(kernel.schedule).by_rows else ElementGroup
        emitter(kernel).print(out)
    out.line()
    out.line("}  // namespace qcc")
    return out.text()

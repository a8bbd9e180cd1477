"""Every pass of the CPU target by name, for `qcc opt`; lower.py runs them among MLIR's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...dialects.bindings import Operation
from .convert_qcc_to_kernels import convert_qcc_to_kernels
from .hoist_deallocations import hoist_deallocations
from .keep_buffers import keep_buffers
from .limit_results import limit_results
from .outline_loops import outline_loops
from .replace_copies import replace_copies

Pass = Callable[[Operation, object], None]


def _with_kernels(module: Any) -> None:
    """The kernels come along, so that what is printed is whole."""
    convert_qcc_to_kernels(module).library.link()


def _on_module(run: Callable[[Any], None]) -> Pass:
    return lambda module, _: run(module.opview)


PASSES: dict[str, Pass] = {
    "convert-qcc-to-kernels": _on_module(_with_kernels),
    "hoist-deallocations": _on_module(hoist_deallocations),
    "keep-buffers": _on_module(keep_buffers),
    "limit-results": _on_module(limit_results),
    "outline-loops": _on_module(outline_loops),
    "replace-copies": _on_module(replace_copies),
}

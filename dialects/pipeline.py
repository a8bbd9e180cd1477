"""Running MLIR's own passes on the way to a target."""

from __future__ import annotations

from .bindings import MLIRError, PassManager, ir
from .errors import UnsupportedError
from .source_line import source_line

FUSE = (
    "func.func(canonicalize,cse,linalg-generalize-named-ops,linalg-fuse-elementwise-ops,"
    "math-expand-ops{ops=fpowi},canonicalize,cse)"
)
"""Elementwise linalg becomes few ops; every target begins with it."""


def run_passes(module: ir.Module, pipeline: str, target: str) -> None:
    """
    Run the passes of `pipeline` on a module, in place.

    The module is not verified between them, which would take longer than they do.
    Raises UnsupportedError, with the line of the user's model, where an op cannot be lowered.
    """
    passes = PassManager.parse(f"builtin.module({pipeline})")
    passes.enable_verifier(False)
    try:
        passes.run(module.operation)
    except MLIRError as error:
        first = next(iter(error.error_diagnostics), None)
        raise UnsupportedError(
            f"{target}-lowering",
            f"an op of the program has no code for target {target}",
            where="" if first is None else source_line(first.location),
            why=str(error) if first is None else first.message.splitlines()[0],
            next_step="write this part of the model with other ops",
        ) from error

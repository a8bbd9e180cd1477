"""From a module to a saved exported program."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from .family import DynamicShapes


def export(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    dynamic_shapes: DynamicShapes | dict[str, Any] | None = None,
) -> ExportedProgram:
    """Trace for inference: no gradients, eval mode (the module's own mode is put back)."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            return torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes, strict=False)
    finally:
        module.train(training)


def save_program(program: ExportedProgram, path: str | Path) -> None:
    """Write a `.pt2`, published by rename."""
    partial = Path(path).with_suffix(".partial.pt2")
    try:
        torch.export.save(program, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)

"""What every model family offers: a module, inputs to trace it with, and its free sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

DynamicShapes = tuple[dict[int, Any], ...]
"""For each input, its dynamic axes: axis -> torch.export.Dim."""


class Sample(NamedTuple):
    """A model ready to compile; factories named as `module:factory` return one."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    dynamic_shapes: DynamicShapes | None

"""What `pim.linear` computes, as a rule of the interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..pim.placed_layers import PlacedLayers
from .element_types import Array
from .frame import Frame, Rule
from .program import Step


def linear_rule(layers: PlacedLayers) -> Rule:
    def rule(step: Step, operands: Sequence[Array], frame: Frame) -> Array:
        _ = frame
        op: Any = step.op.opview
        source, _weight, *bias = operands
        return layers(op.place, source, bias[0] if bias else None)

    return rule

"""
Who says what about a layer: the records between a recipe and the plan it resolves to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from ..dialects.formats import Format
from .plan import LayerInfo
from .recipe_schema import Rule, Settings

Statistics = Callable[[str], tuple[float, float]]
"""(min, max) of a parameter, by its symbol."""

APPLICABLE = {
    "linear": ("weights", "activations"),
    "conv2d": ("weights", "activations"),
    "embedding": ("weights",),
    "matmul": ("activations",),
    "attention": ("keys", "values"),
}
"""The formats that an op has a place for, the one it is named after first."""


class Voice(IntEnum):
    """How specific a speaker is."""

    DEFAULT = 0
    LAYER_KIND = 1
    RULE = 2


@dataclass(frozen=True, slots=True)
class Decision:
    """A chosen format, who chose it, and why it is not what was asked for."""

    format: Format | None
    by: str = "default"
    voice: Voice = Voice.DEFAULT
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """A layer, the settings that hold for it, and the rule behind each one that a rule set."""

    layer: LayerInfo
    settings: Settings
    rules: Mapping[str, Rule]

    @property
    def has_weight(self) -> bool:
        return self.layer.weight is not None and "weights" in APPLICABLE[self.layer.op]

"""
The recipe: defaults, then ordered rules that set formats for layers.

The records that recipe_reader.py fills and resolve.py applies (docs/recipes.md explains them).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects.formats import Format
from .name_pattern import NamePattern
from .plan import Plan


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that somebody chose; None is the explicit "none", the model's own precision."""

    format: Format | None


@dataclass(frozen=True, slots=True)
class Scaling:
    """
    Where activation scales come from: calibration, or (None) the values of each call.

    `static_percent` of the calibrated values, those of smallest magnitude, lie inside the range.
    """

    static_percent: float | None


@dataclass(frozen=True, slots=True)
class Settings:
    """What one rule, or the defaults, say; None where they say nothing."""

    weights: Choice | None = None
    activations: Choice | None = None
    keys: Choice | None = None
    values: Choice | None = None
    fallback: tuple[Format, ...] | None = None
    scaling: Scaling | None = None
    key_scales: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Settings for the layers that `match` and `op` (both, where both are given) select."""

    number: int
    match: NamePattern | None
    op: str | None
    optional: bool
    settings: Settings

    @property
    def label(self) -> str:
        """
        How messages and plans name the rule.

        >>> from qcc.compiler.name_pattern import name_pattern
        >>> Rule(2, name_pattern("blocks.*"), "linear", False, Settings()).label
        'rule 2: match="blocks.*" op="linear"'
        """
        parts = [f'match="{self.match.text}"'] if self.match else []
        parts += [f'op="{self.op}"'] if self.op else []
        return f"rule {self.number}: {' '.join(parts)}"

    def selects(self, name: str, op: str) -> bool:
        if self.op is not None and self.op != op:
            return False
        return self.match is None or self.match.matches(name)


@dataclass(frozen=True, slots=True)
class Recipe:
    """
    A checked recipe; `plan` is set instead of rules where it was read from a resolved plan.

    `embeddings` and `head` are the defaults of those layers; None says nothing about them.
    """

    name: str
    description: str = ""
    source: str = ""
    default: Settings = Settings()
    embeddings: Choice | None = None
    head: Choice | None = None
    rules: tuple[Rule, ...] = ()
    plan: Plan | None = None

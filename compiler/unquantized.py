"""Why layers were left in the model's own precision, told in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FORMATS = ("weights", "activations", "keys", "values")
_SHOWN_REASONS, _SHOWN_NAMES = 3, 3


def nothing_quantized(layers: Sequence[Mapping[str, Any]]) -> str:
    """
    A warning for a recipe that changed nothing, empty where it did; `layers` are the report's.

    >>> nothing_quantized([])
    'nothing was quantized: the model has no layer that a recipe could give a format'
    """
    if any(layer[kind] is not None for layer in layers for kind in FORMATS):
        return ""
    reasons = reasons_of(layers) or "the model has no layer that a recipe could give a format"
    return f"nothing was quantized: {reasons}"


def reasons_of(layers: Sequence[Mapping[str, Any]]) -> str:
    """
    The commonest reasons for which weights stayed as they were, each with some of its layers.

    Of layers without weights, where the model has no others. Empty without any.

    >>> left = {"weights": None, "rule": "default", "reason": "7 rows", "shape": [7, 3]}
    >>> reasons_of([left | {"name": name} for name in "abcd"])
    '7 rows (a, b, c and 1 more)'
    """
    weighted = [layer for layer in layers if layer["shape"]]
    by_reason: dict[str, list[str]] = {}
    for layer in weighted or layers:
        if layer["weights"] is None:
            by_reason.setdefault(_reason(layer), []).append(layer["name"])
    common = sorted(by_reason.items(), key=lambda each: -len(each[1]))
    shown = [f"{reason} ({_listed(names)})" for reason, names in common[:_SHOWN_REASONS]]
    rest = sum(len(names) for _, names in common[_SHOWN_REASONS:])
    return "; ".join([*shown, f"other reasons for {rest} more layers"] if rest else shown)


def _reason(layer: Mapping[str, Any]) -> str:
    """What the plan says; who decided where that is not plain from it."""
    if not layer["reason"]:
        return "the recipe gives no format"
    decided = "" if layer["rule"] == "default" else f"{layer['rule']}: "
    return f"{decided}{layer['reason']}"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN_NAMES
    shown = ", ".join(names[:_SHOWN_NAMES])
    return f"{shown} and {rest} more" if rest > 0 else shown

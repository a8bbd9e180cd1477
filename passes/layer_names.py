"""The names of layers, for what is made of their results."""

from __future__ import annotations

from typing import Any

from ..dialects.bindings import ir

MOST_MOVES = 8
"""Ops between a layer and the function that is named after it."""


def own_layer(op: Any) -> str:
    attributes = op.attributes
    return ir.StringAttr(attributes["layer"]).value if "layer" in attributes else ""


def layer_before(source: ir.Value) -> str:
    """The layer whose result a value is, moved or joined with others at most."""
    for _ in range(MOST_MOVES):
        owner: Any = source.owner
        if isinstance(owner, ir.Block):
            return ""
        if found := own_layer(owner):
            return found
        if owner.name.partition(".")[0] not in ("tensor", "linalg") or not len(owner.operands):
            return ""
        source = owner.operands[0]
    return ""


def owner_of(weight: ir.Value | None) -> str:
    """The name of the layer that a parameter is of."""
    owner: Any = None if weight is None else weight.owner
    if owner is None or isinstance(owner, ir.Block) or owner.name != "qcc.param":
        return ""
    return ir.StringAttr(owner.attributes["symbol"]).value.rpartition(".")[0]

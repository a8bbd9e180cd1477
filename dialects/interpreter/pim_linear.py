"""What `pim.linear` computes, as a rule of the interpreter: with exact sums, or those of DPUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..bindings import ir
from ..pim.linear import Sums
from ..pim.plan import Layer, Plan
from .element_types import Array
from .frame import Frame, Rule
from .program import Step

Parts = Callable[[str], Mapping[str, Array]]


def linear_rule(plan: Plan, parts: Parts, sums: Callable[[Layer], Sums] | None = None) -> Rule:
    """
    The rule of `pim.linear` for the layers of a plan.

    `parts` are the stored arrays of a parameter by role, as Format.encode_rows makes them. `sums`
    says who sums up a layer; without it integers are summed exactly in NumPy.
    """
    layers = {(layer.name, layer.parameter): layer for layer in plan.layers}

    def rule(step: Step, operands: Sequence[Array], frame: Frame) -> Array:
        _ = frame
        layer = layers[_key(step.op)]
        source, _weight, *bias = operands
        summed = sums(layer) if sums else None
        stored = parts(layer.parameter)
        return layer.linear(source, stored, bias[0] if bias else None, summed)

    return rule


def _key(op: Any) -> tuple[str, str]:
    attributes, parameter = op.attributes, op.operands[1].owner
    name = ir.StringAttr(attributes["layer"]).value if "layer" in attributes else op.name
    return name, ir.StringAttr(parameter.attributes["symbol"]).value

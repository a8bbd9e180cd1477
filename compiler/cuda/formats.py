"""
Formats of a plan as tensor cores can have them.

    a linear layer or convolution without a weight format    =>    fp16, or bf16

Matrix units multiply nothing wider than 16 bits, so a weight that the recipe leaves in fp32 is
rounded once, and the plan and its report say so. Activations of such layers are rounded in the
program itself (passes/round_operands.py), unless the model computes them in half precision: then
the weight takes their type.
"""

from __future__ import annotations

from dataclasses import replace

from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.errors import UsageError
from ...dialects.formats import parse_spelling
from ...passes.name_layers import layer_name, layer_ops
from ...passes.narrow_operands import narrow
from ..plan import LayerPlan, Plan

ROUNDED = ("linear", "conv2d")
FORMATS = {"f16": "fp16", "bf16": "bf16"}


def check_operands(operand: str) -> None:
    """Raises UsageError for a type that tensor cores do not multiply."""
    if operand not in FORMATS:
        raise UsageError(
            "operands",
            f"tensor cores multiply no '{operand}'",
            next_step=f"choose {' or '.join(FORMATS)}",
        )


def settle_weights(plan: Plan, module: ir.Module, operand: str) -> Plan:
    """
    `plan` with a format for each weight that matrix units multiply.

    `operand`, f16 or bf16, is that of layers whose activations are fp32 in the module.
    """
    halves = {layer_name(op): _half(op.operands[0]) for op in layer_ops(module.operation)}
    layers = (_settled(layer, halves.get(layer.name), operand) for layer in plan.layers)
    return replace(plan, layers=tuple(layers))


def _half(value: ir.Value) -> str | None:
    """The half precision that the model computes a layer's input in."""
    element = str(qcc.logical_type(narrow(value).type).element_type)
    return element if element in FORMATS else None


def _settled(layer: LayerPlan, half: str | None, operand: str) -> LayerPlan:
    if layer.op not in ROUNDED or layer.weight is None or layer.weights is not None:
        return layer
    said = (
        f"the model computes it in {FORMATS[half]}"
        if half
        else f"tensor cores multiply 16 bits: weights are rounded to {FORMATS[operand]}"
    )
    reason = f"{layer.reason}; {said}" if layer.reason else said
    return replace(layer, weights=parse_spelling(FORMATS[half or operand]), reason=reason)

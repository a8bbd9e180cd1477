"""
Lay the weights of linear layers and convolutions out for the registers that will read them.

    qcc.param "p" : !qcc.packed<tensor<…>, "int4">
      =>  qcc.param "p" {layout = "panel16"} : !qcc.packed<tensor<…>, "int4">

Exact: a layout says where the stored bytes lie, and reading it undoes it. A parameter changes if
linear layers read it, and nothing else than them and embeddings does, in any function; or if it
is only read by convolutions of an input that is rounded to integers. It must have at least one
whole panel of rows, and those not empty, and the layout must know its format.
"""

from __future__ import annotations

import math

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.formats import Format, parse_spelling
from ..dialects.formats.panels import LAYOUT, PANEL_ROWS, panel_unit
from ..dialects.formats.scaled_integers import holds_integers, products_fit
from ..dialects.formats.tap_panels import TAP_LAYOUT, has_tap_panels, tap_unit
from .assign_formats import parameters_by_symbol
from .name_layers import WEIGHT_OPERAND

PANEL_READERS = {"qcc.linear", "qcc.embedding"}


def permute_weights(module: Operation, _: object = None) -> None:
    for parameters in parameters_by_symbol(module).values():
        layout = _layout_for(parameters)
        if layout is not None:
            attribute = ir.StringAttr.get(layout, module.context)
            for parameter in parameters:
                parameter.operation.attributes[qcc.LAYOUT_ATTRIBUTE] = attribute


def _layout_for(parameters: list[qcc.ParamOp]) -> str | None:
    """The layout that every reader of a parameter, and its format, can do with."""
    type_ = parameters[0].value.type
    spelling, shape = qcc.format_spelling(type_), qcc.logical_type(type_).shape
    if spelling is None or shape[0] < PANEL_ROWS or 0 in shape:
        return None
    uses = [use for parameter in parameters for use in parameter.value.uses]
    readers = {use.owner.operation.name for use in uses}
    if any(WEIGHT_OPERAND.get(use.owner.operation.name) != use.operand_number for use in uses):
        return None
    fmt = parse_spelling(spelling)
    if "qcc.linear" in readers and readers <= PANEL_READERS:
        return LAYOUT if len(shape) == 2 and panel_unit(fmt) is not None else None
    if readers == {"qcc.conv2d"} and has_tap_panels(fmt):
        return TAP_LAYOUT if all(_takes_taps(use.owner, fmt) for use in uses) else None
    return None


def _takes_taps(op: qcc.Conv2dOp, weight: Format) -> bool:
    """
    Whether a convolution meets integers whose products it can add up in 32 bits, and no panel or
    unit has parts of two groups.
    """
    quantize = qcc.rounding_of(op.input)
    if quantize is None or not isinstance(
        ir.RankedTensorType(op.input.type).element_type, ir.F32Type
    ):
        return False
    activations = qcc.format_of(quantize.codes)
    if activations.block_size != "tensor" or not holds_integers(activations):
        return False
    groups = ir.IntegerAttr(op.groups).value
    outputs, channels, *taps = qcc.logical_type(op.weight.type).shape
    if not products_fit(weight, activations, channels * math.prod(taps)):
        return False
    return groups == 1 or (outputs // groups % PANEL_ROWS == 0 and channels % tap_unit(weight) == 0)

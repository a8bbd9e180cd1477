"""
Lay the weights of linear layers out for the registers that will read them.

    qcc.param "p" : !qcc.packed<tensor<…>, "int4">
      =>  qcc.param "p" {layout = "panel16"} : !qcc.packed<tensor<…>, "int4">

Exact: a layout says where the stored bytes lie, and reading it undoes it. A parameter changes if
linear layers read it, and nothing else than them and embeddings does, in any function; if it has
at least one whole panel of rows, and those not empty; and if the layout knows its format.
"""

from __future__ import annotations

from collections import defaultdict

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.formats import parse_spelling
from ..dialects.formats.panels import LAYOUT, PANEL_ROWS, panel_unit
from .assign_formats import parameter_ops
from .name_layers import WEIGHT_OPERAND

PANEL_READERS = {"qcc.linear", "qcc.embedding"}


def permute_weights(module: Operation, _: object = None) -> None:
    by_symbol: dict[str, list[qcc.ParamOp]] = defaultdict(list)
    for parameter in parameter_ops(module):
        by_symbol[ir.StringAttr(parameter.symbol).value].append(parameter)
    for parameters in by_symbol.values():
        if all(map(_fits, parameters)) and _read_as_weights(parameters):
            for parameter in parameters:
                layout = ir.StringAttr.get(LAYOUT, module.context)
                parameter.operation.attributes[qcc.LAYOUT_ATTRIBUTE] = layout


def _fits(parameter: qcc.ParamOp) -> bool:
    spelling = qcc.format_spelling(parameter.value.type)
    shape = qcc.logical_type(parameter.value.type).shape
    return (
        spelling is not None
        and len(shape) == 2
        and shape[0] >= PANEL_ROWS
        and shape[1] > 0
        and panel_unit(parse_spelling(spelling)) is not None
    )


def _read_as_weights(parameters: list[qcc.ParamOp]) -> bool:
    uses = [use for parameter in parameters for use in parameter.value.uses]
    readers = {use.owner.operation.name for use in uses}
    as_weight = all(
        WEIGHT_OPERAND.get(use.owner.operation.name) == use.operand_number for use in uses
    )
    return as_weight and "qcc.linear" in readers and readers <= PANEL_READERS

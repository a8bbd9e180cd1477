"""
Read parameters through a view of their formats.

    qcc.param "p" : !qcc.packed<tensor<…>, "nestedfp16">
      =>  qcc.param "p" : !qcc.packed<tensor<…>, "nestedfp16<view=fp8_e4m3>">

A view is read from the parts that its format stores, or from fewer, so the same stored tensors
serve the program before and after. Parameters whose format lacks the view keep it. This changes
the program's values, by exactly what the view leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..dialects import qcc
from ..dialects.bindings import Operation
from ..dialects.formats import parse_spelling
from .assign_formats import parameter_ops


@dataclass(frozen=True, slots=True)
class ViewSelection:
    """A view by name; None is the first that each format offers."""

    view: str | None = None


def select_view(selection: ViewSelection) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        with module.context:
            for parameter in list(parameter_ops(module)):
                _retype(parameter, selection.view)

    return apply


def _retype(parameter: qcc.ParamOp, view: str | None) -> None:
    type_ = parameter.value.type
    spelling = qcc.format_spelling(type_)
    if spelling is None:
        return
    fmt = parse_spelling(spelling)
    offered = [each.format for each in fmt.views if view in (None, each.format)]
    if offered:
        viewed = fmt.with_options(view=offered[0])
        parameter.value.set_type(qcc.packed(qcc.logical_type(type_), viewed.spelling))

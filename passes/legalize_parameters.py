"""
Give all reads of a parameter one type, as it is stored once.

    qcc.param "w" : !qcc.packed<tensor<…xf32>, "bf16">     =>   both read the packed one, and the
    qcc.param "w" : tensor<…xbf16>                               second reader dequantize and cast

    qcc.param "w" : !qcc.packed<tensor<…xf32>, "bf16">     =>   qcc.param "w" : tensor<…xf32>
    qcc.param "w" : tensor<…xf32>

Such reads come from raise-torch, which has layers read weights as fp32, and from parameters that
were tied afterwards. Exact in the first case. In the second, a weight that autocast rounds for
one of its layers and not for another is rounded for none; what is fp64 becomes fp32.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.regions import walk
from .assign_formats import parameters_by_symbol
from .float_casts import cast_to
from .raiser import CASTS, FLOATS, TRANSPOSES, UNSQUEEZE

UNREAD = frozenset(("qcc.param", "torch_c.from_builtin_tensor", *CASTS, *TRANSPOSES, UNSQUEEZE))


def legalize_parameters(module: Operation, _: object = None) -> None:
    _erase_unread(module)
    with module.context:
        for parameters in parameters_by_symbol(module).values():
            if len({str(parameter.value.type) for parameter in parameters}) > 1:
                stored = _stored_type(parameters)
                for parameter in parameters:
                    _read_as(parameter, stored)


def _erase_unread(op: Operation) -> None:
    """Reads that raising made unnecessary have no say; canonicalization does not know torch's."""
    for child in reversed(walk(op)):
        if child.operation.name in UNREAD and not list(child.results[0].uses):
            child.operation.erase()


def _stored_type(parameters: Sequence[qcc.ParamOp]) -> ir.Type:
    """The packed type where it holds what every reader sees, else plain fp32."""
    types = [parameter.value.type for parameter in parameters]
    packed = {str(type_): type_ for type_ in types if qcc.is_packed(type_)}
    plain = {
        str(qcc.logical_type(type_).element_type) for type_ in types if not qcc.is_packed(type_)
    }
    (only, *others) = packed.values() or (None,)
    if only is not None and not others:
        held = {FLOATS.get(element) for element in plain}
        if held <= {qcc.format_spelling(only)}:
            return only
    shape = list(qcc.logical_type(types[0]).shape)
    return ir.RankedTensorType.get(shape, ir.F32Type.get())


def _read_as(parameter: qcc.ParamOp, stored: ir.Type) -> None:
    """Replace a read by one of what is stored, converted to what its readers take."""
    if parameter.value.type == stored:
        return
    with ir.InsertionPoint(parameter), parameter.location:
        value: ir.Value = qcc.ParamOp(parameter.symbol, stored).value
        wanted = parameter.value.type
        if qcc.is_packed(stored):
            value = qcc.DequantizeOp(value, qcc.logical_type(stored)).value
        if not qcc.is_packed(wanted):
            value = cast_to(value, qcc.logical_type(wanted).element_type)
    parameter.value.replace_all_uses_with(value)
    parameter.operation.erase()

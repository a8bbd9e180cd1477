"""Conversions between float types in linalg, one op each: made, and seen through."""

from __future__ import annotations

from ..dialects.bindings import Operation, arith, ir, linalg, tensor
from .launching import size_of
from .torch_constants import producer

CASTS = ("arith.extf", "arith.truncf")


def cast_to(value: ir.Value, element: ir.Type) -> ir.Value:
    """A tensor in another float type; itself where it has that type already."""
    type_ = ir.RankedTensorType(value.type)
    if type_.element_type == element:
        return value
    wider = ir.FloatType(element).width > ir.FloatType(type_.element_type).width
    target = tensor.empty([size_of(value, axis) for axis in range(type_.rank)], element)
    identity = ir.AffineMapAttr.get(ir.AffineMap.get_identity(type_.rank))
    parallel = ir.Attribute.parse("#linalg.iterator_type<parallel>")
    generic = linalg.GenericOp(
        [target.type],
        [value],
        [target],
        ir.ArrayAttr.get([identity, identity]),
        ir.ArrayAttr.get([parallel] * type_.rank),
    )
    block = generic.regions[0].blocks.append(type_.element_type, element)
    with ir.InsertionPoint(block):
        cast = arith.extf if wider else arith.truncf
        linalg.YieldOp([cast(element, block.arguments[0])])
    return generic.results[0]


def is_cast(op: Operation) -> bool:
    """Whether `op` converts each element of its first operand, and does nothing else."""
    if op.name != "linalg.generic":
        return False
    inside = [each.operation.name for each in op.regions[0].blocks[0].operations]
    return len(inside) == 2 and inside[0] in CASTS and _keeps_order(op)


def _keeps_order(op: Operation) -> bool:
    """Whether element i of the result is made of element i of the operand."""
    maps = {str(each) for each in ir.ArrayAttr(op.attributes["indexing_maps"])}
    rank = ir.RankedTensorType(op.results[0].type).rank
    return maps == {str(ir.AffineMapAttr.get(ir.AffineMap.get_identity(rank)))}


def before_casts(value: ir.Value) -> ir.Value:
    """What `value` was before conversions between float types."""
    op = producer(value)
    while op is not None and is_cast(op):
        value = op.operands[0]
        op = producer(value)
    return value

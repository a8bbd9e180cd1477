"""Conversions between float types in linalg, one op each: made, and seen through."""

from __future__ import annotations

from ..dialects.bindings import Operation, arith, ir, linalg, tensor
from .torch_constants import producer

CASTS = ("arith.extf", "arith.truncf")


def cast_to(value: ir.Value, element: ir.Type) -> ir.Value:
    """A tensor of static shape in another float type; itself where it has that type already."""
    type_ = ir.RankedTensorType(value.type)
    if type_.element_type == element:
        return value
    wider = ir.FloatType(element).width > ir.FloatType(type_.element_type).width
    target = tensor.empty(list(type_.shape), element)
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
    return len(inside) == 2 and inside[0] in CASTS


def before_casts(value: ir.Value) -> ir.Value:
    """What `value` was before conversions between float types."""
    op = producer(value)
    while op is not None and is_cast(op):
        value = op.operands[0]
        op = producer(value)
    return value

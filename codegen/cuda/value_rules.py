"""What ops that launch nothing are in a plan: constants, parameters, sizes, arguments."""

from collections.abc import Callable
from typing import Any

from ...dialects import qcc
from ...dialects.bindings import ir
from .plan import Argument, Box, CacheSpec
from .plan_memory import Memory, Packed, Pointer, Result, Tensor
from .plan_values import Known, PlanValues, format_of, refused
from .view_rules import extents_of


def _empty(values: PlanValues, op: Any) -> Tensor:
    type_ = ir.RankedTensorType(op.results[0].type)
    sizes = [values.known[size] for size in op.operands]
    extents = extents_of(values.table, type_.shape, sizes)
    return Tensor(extents, str(type_.element_type), None)


def _dim(values: PlanValues, op: Any) -> int:
    axis = values.table.value(values.known[op.operands[1]])
    if axis is None:
        raise refused(op, "which axis is meant is known only at run time")
    return values.known[op.operands[0]].extents[axis]


def _extract(values: PlanValues, op: Any) -> int:
    """The number in an integer scalar that the caller gives."""
    tensor = values.known[op.operands[0]]
    if not isinstance(tensor, Tensor) or tensor.memory is None or tensor.memory.place != "input":
        raise refused(op, "a size depends on a value that the device computes")
    if tensor.extents or not tensor.element.startswith("i"):
        raise refused(op, "a size is taken from a tensor that is no integer scalar")
    return values.table.leaf("value", tensor.memory.index)


def _tensor_map(values: PlanValues, op: Any) -> Pointer:
    pointer, attributes = values.pointer(op), op.attributes
    columns, element_bytes, swizzle = (
        ir.IntegerAttr(attributes[name]).value for name in ("columns", "element_bytes", "swizzle")
    )
    rows, width = ir.DenseI64ArrayAttr(attributes["box"])
    box = Box(values.known[op.operands[1]], columns, element_bytes, (rows, width), swizzle)
    return Pointer(pointer.memory, pointer.offset, box)


def _joined_parts(values: PlanValues, op: Any) -> Packed:
    """The parts of a packed value, in the order of its format's."""
    parts = [values.known[operand] for operand in op.operands]
    type_ = op.results[0].type
    if not qcc.is_packed(type_) or not all(isinstance(part, Tensor) for part in parts):
        raise refused(op, "it is a cast between types that qcc does not know")
    columns = qcc.logical_type(type_).shape[-1]
    roles = format_of(type_).part_specs(1, columns)
    memories = {role: part.memory for role, part in zip(roles, parts, strict=True)}
    return Packed((*parts[0].extents[:-1], values.table.constant(columns)), memories)


def _number(values: PlanValues, op: Any) -> Argument:
    kind, value = ir.StringAttr(op.attributes["kind"]).value, values.known[op.operands[0]]
    if isinstance(value, float):
        return Argument("float", type=kind, value=value)
    return Argument("number", value, type=kind)


def _scratch(values: PlanValues, op: Any) -> Pointer:
    return Pointer(Memory("arena", values.known[op.operands[0]]))


def _cache(values: PlanValues, op: Any) -> Tensor:
    cache = op.opview
    type_ = ir.RankedTensorType(cache.value.type)
    sizes = [values.known[size] for size in cache.extents]
    extents, element = extents_of(values.table, type_.shape, sizes), str(type_.element_type)
    name = cache.symbol.value
    values.caches.append(CacheSpec(name, element, extents, cache.grows.value))
    return Tensor(extents, element, Memory("cache", values.bytes(extents, element), name))


VALUE_RULES: dict[str, Callable[[PlanValues, Any], Known]] = {
    "arith.constant": PlanValues.constant,
    "qcc.param": PlanValues.parameter,
    "builtin.unrealized_conversion_cast": _joined_parts,
    "tensor.empty": _empty,
    "tensor.dim": _dim,
    "tensor.extract": _extract,
    "tile.pointer": PlanValues.pointer,
    "tile.tensor_map": _tensor_map,
    "tile.result": lambda values, op: Result(
        ir.IntegerAttr(op.attributes["index"]).value, ir.StringAttr(op.attributes["part"]).value
    ),
    "tile.scratch": _scratch,
    "tile.counters": lambda values, op: Argument("counters", values.known[op.operands[0]]),
    "tile.number": _number,
    "tile.made": PlanValues.made,
    "tile.cache": _cache,
    "tile.processors": lambda values, op: values.table.leaf("processors"),
    "tile.capacity": lambda values, op: values.table.leaf("capacity"),
}

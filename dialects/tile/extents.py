"""Extents of tensors as polynomials, followed from op to op to where they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..bindings import ir
from .index import Index, product

DYNAMIC = ir.ShapedType.get_dynamic_size()
Leaf = Callable[[ir.Value, int | None], Index]


def reassociation(op: Any) -> list[list[int]]:
    """The groups of axes of expand_shape and collapse_shape."""
    return [
        [ir.IntegerAttr(axis).value for axis in ir.ArrayAttr(group)]
        for group in ir.ArrayAttr(op.attributes["reassociation"])
    ]


def strides_of(op: Any) -> list[int]:
    """Of slices; dynamic ones are negative."""
    return list(ir.DenseI64ArrayAttr(op.attributes["static_strides"]))


SEGMENTS = {
    "tensor.extract_slice": ("offsets", "sizes", "strides"),
    "tensor.insert_slice": ("", "offsets", "sizes", "strides"),
    "tensor.pad": ("low", "high"),
}


def slice_part(op: Any, part: str, extents: Extents) -> list[Index]:
    """Offsets or sizes of a slice, `low` or `high` of a pad: static numbers and operands."""
    static = list(ir.DenseI64ArrayAttr(op.attributes[f"static_{part}"]))
    counts = list(ir.DenseI32ArrayAttr(op.attributes["operandSegmentSizes"]))
    before = 1 + SEGMENTS[op.operation.name].index(part)
    start = sum(counts[:before])
    given = iter(list(op.operands)[start : start + counts[before]])
    return [
        extents.number(next(given)) if number == DYNAMIC else Index.of(number) for number in static
    ]


class Extents:
    """
    `leaf(value, axis)` is the extent of a tensor that no rule follows further; with axis None,
    the number that an index value has.
    """

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self._known: dict[ir.Value, tuple[Index, ...]] = {}
        self._numbers: dict[ir.Value, Index] = {}

    def of(self, value: ir.Value) -> tuple[Index, ...]:
        if value not in self._known:
            type_ = ir.RankedTensorType(value.type)
            self._known[value] = tuple(
                self._dynamic(value, axis) if size == DYNAMIC else Index.of(size)
                for axis, size in enumerate(type_.shape)
            )
        return self._known[value]

    def number(self, value: ir.Value) -> Index:
        """An index value as a polynomial of sizes."""
        if value not in self._numbers:
            self._numbers[value] = self._number(value)
        return self._numbers[value]

    def kept_axes(self, op: Any) -> list[int]:
        """The axes of a slice that its smaller side still has: those that are not 1 first."""
        side = op.results[0] if op.operation.name == "tensor.extract_slice" else op.operands[0]
        rank = ir.RankedTensorType(side.type).rank
        sizes = list(ir.DenseI64ArrayAttr(op.attributes["static_sizes"]))
        wanted = list(ir.RankedTensorType(side.type).shape)
        kept, place = [], 0
        for axis, size in enumerate(sizes):
            left = len(sizes) - axis
            if place < rank and (left == rank - place or size != 1 or wanted[place] == 1):
                kept.append(axis)
                place += 1
        return kept

    def _dynamic(self, value: ir.Value, axis: int) -> Index:
        owner: Any = value.owner
        if isinstance(owner, ir.Block):
            return self._leaf(value, axis)
        rule = _EXTENTS.get(owner.operation.name)
        return self._leaf(value, axis) if rule is None else rule(self, owner, value, axis)

    def _number(self, value: ir.Value) -> Index:
        owner: Any = value.owner
        if isinstance(owner, ir.Block):
            return self._leaf(value, None)
        operands = list(owner.operands)
        match owner.operation.name:
            case "arith.constant":
                return Index.of(ir.IntegerAttr(owner.attributes["value"]).value)
            case "tensor.dim":
                axis = self.number(operands[1]).constant
                return self._leaf(value, None) if axis is None else self.of(operands[0])[axis]
            case "arith.addi":
                return self.number(operands[0]) + self.number(operands[1])
            case "arith.subi":
                return self.number(operands[0]) - self.number(operands[1])
            case "arith.muli":
                return self.number(operands[0]) * self.number(operands[1])
        return self._leaf(value, None)


def _position(type_: ir.RankedTensorType, axis: int) -> int:
    """The number of dynamic axes before `axis`."""
    return sum(size == DYNAMIC for size in type_.shape[:axis])


def _given(extents: Extents, op: Any, value: ir.Value, axis: int) -> Index:
    """One operand for each dynamic axis, behind what is not an index."""
    sizes = [each for each in op.operands if isinstance(each.type, ir.IndexType)]
    return extents.number(sizes[_position(ir.RankedTensorType(value.type), axis)])


def _generic(extents: Extents, op: Any, value: ir.Value, axis: int) -> Index:
    inputs = ir.DenseI32ArrayAttr(op.attributes["operandSegmentSizes"])[0]
    return extents.of(op.operands[inputs + ir.OpResult(value).result_number])[axis]


def _first(extents: Extents, op: Any, _: ir.Value, axis: int) -> Index:
    """The first operand has as many, or at least along the axes that are not static."""
    return extents.of(op.operands[0])[axis]


def _collapse(extents: Extents, op: Any, _: ir.Value, axis: int) -> Index:
    source = extents.of(op.operands[0])
    return product(source[each] for each in reassociation(op)[axis])


def _extract(extents: Extents, op: Any, _: ir.Value, axis: int) -> Index:
    return slice_part(op, "sizes", extents)[extents.kept_axes(op)[axis]]


def _insert(extents: Extents, op: Any, _: ir.Value, axis: int) -> Index:
    return extents.of(op.operands[1])[axis]


def _concat(extents: Extents, op: Any, _: ir.Value, axis: int) -> Index:
    sizes = [extents.of(operand)[axis] for operand in op.operands]
    if axis != ir.IntegerAttr(op.attributes["dim"]).value:
        return sizes[0]
    total = sizes[0]
    for size in sizes[1:]:
        total = total + size
    return total


def _pad(extents: Extents, op: Any, _: ir.Value, axis: int) -> Index:
    low, high = (slice_part(op, part, extents)[axis] for part in ("low", "high"))
    return low + extents.of(op.operands[0])[axis] + high


def _branch(extents: Extents, op: Any, value: ir.Value, axis: int) -> Index:
    """Both branches of an `scf.if` yield tensors of one shape."""
    ending = list(op.regions[0].blocks[0].operations)[-1]
    return extents.of(ending.operands[ir.OpResult(value).result_number])[axis]


def _made(extents: Extents, op: Any, value: ir.Value, axis: int) -> Index:
    """tile.made: the launch, then a size for each dynamic axis."""
    return extents.number(op.operands[1 + _position(ir.RankedTensorType(value.type), axis)])


_EXTENTS: dict[str, Callable[[Extents, Any, ir.Value, int], Index]] = {
    "linalg.generic": _generic,
    "qcc.attention": _first,
    "qcc.conv2d": _first,
    "qcc.linear": _first,
    "scf.if": _branch,
    "tensor.cast": _first,
    "tensor.collapse_shape": _collapse,
    "tensor.concat": _concat,
    "tensor.empty": _given,
    "tensor.expand_shape": _given,
    "tensor.extract_slice": _extract,
    "tensor.insert_slice": _insert,
    "tensor.pad": _pad,
    "tensor.splat": _given,
    "tile.made": _made,
}

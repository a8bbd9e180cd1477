"""Ops of the host function that give a tensor another shape and move nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...dialects.bindings import ir
from ...dialects.interpreter.element_types import DTYPES
from .plan_memory import Tensor
from .size_table import SizeTable

DYNAMIC = ir.ShapedType.get_dynamic_size()
ViewRule = Callable[[SizeTable, Any, Tensor, list[int]], Tensor | None]
"""The view of a tensor, given the rows of the op's other operands; None where bytes must move."""


def extents_of(table: SizeTable, static: Sequence[int], dynamic: Sequence[int]) -> tuple[int, ...]:
    """A row for each extent; those that are not static are taken from `dynamic` in turn."""
    given = iter(dynamic)
    return tuple(next(given) if each == DYNAMIC else table.constant(each) for each in static)


def expand_shape(table: SizeTable, op: Any, source: Tensor, sizes: list[int]) -> Tensor:
    static = list(ir.DenseI64ArrayAttr(op.attributes["static_output_shape"]))
    extents = extents_of(table, static, sizes)
    return Tensor(extents, source.element, source.memory, source.offset)


def collapse_shape(table: SizeTable, op: Any, source: Tensor, sizes: list[int]) -> Tensor:
    groups = [
        [ir.IntegerAttr(axis).value for axis in ir.ArrayAttr(group)]
        for group in ir.ArrayAttr(op.attributes["reassociation"])
    ]
    extents = [table.product([source.extents[axis] for axis in group]) for group in groups]
    return Tensor(tuple(extents), source.element, source.memory, source.offset)


def cast(table: SizeTable, op: Any, source: Tensor, sizes: list[int]) -> Tensor:
    """Static extents that become dynamic keep their numbers, dynamic ones become what is said."""
    shape = ir.RankedTensorType(op.results[0].type).shape
    extents = [
        old if new == DYNAMIC else table.constant(new)
        for new, old in zip(shape, source.extents, strict=True)
    ]
    return Tensor(tuple(extents), source.element, source.memory, source.offset)


def extract_slice(table: SizeTable, op: Any, source: Tensor, sizes: list[int]) -> Tensor | None:
    """
    Contiguous where only the outermost axis longer than 1 is cut, from a static place on.
    """
    attributes = op.attributes
    offsets, lengths, strides = (
        list(ir.DenseI64ArrayAttr(attributes[f"static_{name}"]))
        for name in ("offsets", "sizes", "strides")
    )
    if DYNAMIC in offsets or any(stride != 1 for stride in strides):
        return None
    extents = extents_of(table, lengths, sizes)
    whole = [new == old for new, old in zip(extents, source.extents, strict=True)]
    cut = next((axis for axis, same in enumerate(whole) if not same), None)
    result = tuple(extents)
    if cut is not None:
        outer = [table.value(extent) for extent in extents[:cut]]
        if not all(whole[cut + 1 :]) or any(extent != 1 for extent in outer):
            return None
    inner = table.constant(1)
    start = 0
    for axis in reversed(range(len(extents))):
        step = table.value(inner)
        if offsets[axis]:
            if step is None:
                return None
            start += offsets[axis] * step
        inner = table.of("mul", source.extents[axis], inner)
    kept = _kept_axes(ir.RankedTensorType(op.results[0].type), lengths)
    result = tuple(extents[axis] for axis in kept)
    offset = source.offset + start * DTYPES[source.element].itemsize
    return Tensor(result, source.element, source.memory, offset)


def _kept_axes(result: ir.RankedTensorType, lengths: list[int]) -> list[int]:
    """The axes of a slice that its result has: extents of 1 may be dropped, leading ones first."""
    kept, extra = [], len(lengths) - result.rank
    for axis, length in enumerate(lengths):
        here = len(kept)
        drops = length == 1 and extra > 0
        if drops and (here >= result.rank or result.shape[here] != 1 or extra > 0):
            extra -= 1
            continue
        kept.append(axis)
    return kept


VIEW_RULES: dict[str, ViewRule] = {
    "tensor.expand_shape": expand_shape,
    "tensor.collapse_shape": collapse_shape,
    "tensor.cast": cast,
    "tensor.extract_slice": extract_slice,
}

"""
Reshapes whose sizes are given one by one become views that say so.

    %s = tensor.from_elements %a, %b, 8      %f = tensor.collapse_shape %x to one axis
    %y = tensor.reshape %x(%s)          =>   %y = tensor.expand_shape %f to [%a, %b, 8]

Exact: both keep the row-major order of the elements. Unlike a reshape, a view costs nothing, and
names the sizes by which kernels find their elements.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dialects.bindings import Operation, arith, ir
from ..dialects.regions import walk
from .torch_constants import producer


def expand_reshapes(module: Operation, _: object = None) -> None:
    for op in walk(module):
        if op.operation.name == "tensor.reshape":
            _expand(op.operation)


def _expand(reshape: Operation) -> None:
    source, result = reshape.operands[0], ir.RankedTensorType(reshape.results[0].type)
    sizes = producer(reshape.operands[1])
    rank = ir.RankedTensorType(source.type).rank
    if sizes is None or sizes.name != "tensor.from_elements" or not rank or not result.rank:
        return
    with ir.InsertionPoint(reshape), reshape.location:
        value = _one_axis(source) if rank > 1 else source
        if result.rank > 1:
            value = _axes(value, result, list(sizes.operands))
        elif value.type != result:
            value = _view("tensor.cast", result, [value])
    reshape.results[0].replace_all_uses_with(value)
    reshape.erase()


def _one_axis(value: ir.Value) -> ir.Value:
    kind = ir.RankedTensorType(value.type)
    dynamic, count = ir.ShapedType.get_dynamic_size(), 1
    for size in kind.shape:
        count = dynamic if dynamic in (count, size) else count * size
    flat = ir.RankedTensorType.get([count], kind.element_type)
    return _view("tensor.collapse_shape", flat, [value], _all_axes(kind.rank))


def _axes(value: ir.Value, kind: ir.RankedTensorType, sizes: Sequence[ir.Value]) -> ir.Value:
    index = ir.IndexType.get()
    given = [
        size if size.type == index else arith.index_cast(index, size)
        for axis, size in enumerate(sizes)
        if kind.is_dynamic_dim(axis)
    ]
    shape = ir.DenseI64ArrayAttr.get(list(kind.shape))
    attributes = {**_all_axes(kind.rank), "static_output_shape": shape}
    return _view("tensor.expand_shape", kind, [value, *given], attributes)


def _all_axes(rank: int) -> dict[str, ir.Attribute]:
    """The attribute of a view between one axis and so many."""
    i64 = ir.IntegerType.get_signless(64)
    group = ir.ArrayAttr.get([ir.IntegerAttr.get(i64, axis) for axis in range(rank)])
    return {"reassociation": ir.ArrayAttr.get([group])}


def _view(
    name: str,
    kind: ir.Type,
    operands: Sequence[ir.Value],
    attributes: dict[str, ir.Attribute] | None = None,
) -> ir.Value:
    return Operation.create(name, results=[kind], operands=operands, attributes=attributes).result

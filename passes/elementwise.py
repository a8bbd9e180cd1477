"""Writing linalg.generic ops: a body in Python, maps as lists of axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dialects.bindings import arith, ir, tensor

Axes = Sequence[int | None]
"""For each axis of an operand the loop that runs along it, None for index 0."""
Body = Callable[..., ir.Value]


def generic(
    inputs: Sequence[tuple[ir.Value, Axes]],
    output: tuple[ir.Value, Axes],
    body: Body,
    loops: int | None = None,
) -> ir.Value:
    """
    A generic whose loops are numbered by `output`; those beyond are reductions.

    `body` gets the elements of the inputs, and that of the output where it takes one more.
    """
    target, axes = output
    rank = loops if loops is not None else len(list(axes))
    parallel = {axis for axis in axes if axis is not None}
    kinds = ["parallel" if axis in parallel else "reduction" for axis in range(rank)]
    maps = [_map(rank, each) for _, each in inputs] + [_map(rank, axes)]
    op = ir.Operation.create(
        "linalg.generic",
        results=[target.type],
        operands=[value for value, _ in inputs] + [target],
        attributes={
            "indexing_maps": ir.ArrayAttr.get([ir.AffineMapAttr.get(each) for each in maps]),
            "iterator_types": ir.ArrayAttr.get(
                [ir.Attribute.parse(f"#linalg.iterator_type<{kind}>") for kind in kinds]
            ),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(inputs), 1]),
        },
        regions=1,
    )
    kinds_of = [_element(value) for value, _ in inputs] + [_element(target)]
    block = op.regions[0].blocks.append(*kinds_of)
    with ir.InsertionPoint(block):
        given = list(block.arguments)
        result = body(*given) if rank > len(parallel) else body(*given[:-1])
        ir.Operation.create("linalg.yield", operands=[result])
    return op.results[0]


def empty(like: ir.Value, axes: Sequence[int], element: ir.Type) -> ir.Value:
    """A tensor with the extents of some axes of another."""
    shape = [ir.RankedTensorType(like.type).shape[axis] for axis in axes]
    dynamic = ir.ShapedType.get_dynamic_size()
    sizes: list[Any] = [
        dim(like, axis) if size == dynamic else size for axis, size in zip(axes, shape, strict=True)
    ]
    return tensor.empty(sizes, element)


def filled(like: ir.Value, axes: Sequence[int], element: ir.Type, value: float) -> ir.Value:
    number = float(value) if isinstance(element, ir.FloatType) else int(value)
    start = arith.constant(element, number)
    return generic([], (empty(like, axes, element), range(len(axes))), lambda: start)


def dim(value: ir.Value, axis: int) -> ir.Value:
    return tensor.dim(value, arith.constant(ir.IndexType.get(), axis))


def count_of(value: ir.Value, axes: Sequence[int], element: ir.Type) -> ir.Value:
    """The number of elements along axes, as a float."""
    shape, known = ir.RankedTensorType(value.type).shape, 1
    total: ir.Value | None = None
    for axis in axes:
        if shape[axis] != ir.ShapedType.get_dynamic_size():
            known *= shape[axis]
            continue
        size = arith.index_cast(ir.IntegerType.get_signless(64), dim(value, axis))
        part = arith.sitofp(element, size)
        total = part if total is None else arith.mulf(total, part)
    constant = arith.constant(element, float(known))
    return constant if total is None else arith.mulf(total, constant)


def widened(value: ir.Value, element: ir.Type) -> ir.Value:
    return value if value.type == element else arith.extf(element, value)


def rounded(value: ir.Value, element: ir.Type) -> ir.Value:
    return value if value.type == element else arith.truncf(element, value)


def _element(value: ir.Value) -> ir.Type:
    kind = value.type
    return kind.element_type if isinstance(kind, ir.RankedTensorType) else kind


def _map(rank: int, axes: Axes) -> ir.AffineMap:
    zero = ir.AffineExpr.get_constant(0)
    return ir.AffineMap.get(
        rank, 0, [zero if a is None else ir.AffineExpr.get_dim(a) for a in axes]
    )

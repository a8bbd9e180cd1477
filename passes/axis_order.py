"""
Values with another axis last, for what runs along it, and back.

    f(%x: tensor<NxCxHxW>)   =>   %t = transpose %x to NHWC; f(%t); transpose to NCHW

Exact: elements move, none changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..dialects.bindings import arith, ir, linalg, tensor
from .earlier_users import earlier_users


def with_axis_last(value: ir.Value, axis: int, change: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """`change`, which keeps the shape, of `value` with `axis` last; then in its own order again."""
    rank = ir.RankedTensorType(value.type).rank
    to_last = [other for other in range(rank) if other != axis] + [axis]
    back = [to_last.index(own) for own in range(rank)]
    return transposed(change(transposed(value, to_last)), back)


def transposed(value: ir.Value, permutation: Sequence[int]) -> ir.Value:
    """`value` with its axes in this order: an earlier transpose where there is one."""
    order = ir.DenseI64ArrayAttr.get(list(permutation))
    for user in earlier_users(value):
        if user.name == "linalg.transpose" and user.attributes["permutation"] == order:
            return user.results[0]
    type_ = ir.RankedTensorType(value.type)
    sizes = [_extent(value, type_, axis) for axis in permutation]
    target = tensor.empty(sizes, type_.element_type)
    moved = linalg.transpose(value, outs=[target], permutation=order)  # pyright: ignore[reportArgumentType]  # the stubs leave out plain values
    return moved.results[0]


def _extent(value: ir.Value, type_: ir.RankedTensorType, axis: int) -> int | ir.Value:
    if not type_.is_dynamic_dim(axis):
        return type_.shape[axis]
    return tensor.dim(value, arith.constant(ir.IndexType.get(), axis))

"""
Values with their channels last, for what runs along them, and back.

    f(%x: tensor<NxCxHxW>)   =>   %t = transpose %x to NHWC; f(%t); transpose to NCHW

Exact: elements move, none changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..dialects.bindings import arith, ir, linalg, tensor

TO_LAST = (0, 2, 3, 1)
FROM_LAST = (0, 3, 1, 2)


def with_channels_last(value: ir.Value, change: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """`change`, which keeps the shape, of `value` [N, C, H, W] as [N, H, W, C]; in NCHW again."""
    return transposed(change(transposed(value, TO_LAST)), FROM_LAST)


def transposed(value: ir.Value, permutation: Sequence[int]) -> ir.Value:
    """`value` with its axes in this order, shared by all that want the same."""
    order = ir.DenseI64ArrayAttr.get(list(permutation))
    for use in value.uses:
        owner = use.owner.operation
        if owner.name == "linalg.transpose" and owner.attributes["permutation"] == order:
            return owner.results[0]
    type_ = ir.RankedTensorType(value.type)
    sizes = [_extent(value, type_, axis) for axis in permutation]
    target = tensor.empty(sizes, type_.element_type)
    moved = linalg.transpose(value, outs=[target], permutation=order)  # pyright: ignore[reportArgumentType]  # the stubs leave out plain values
    return moved.results[0]


def _extent(value: ir.Value, type_: ir.RankedTensorType, axis: int) -> int | ir.Value:
    if not type_.is_dynamic_dim(axis):
        return type_.shape[axis]
    return tensor.dim(value, arith.constant(ir.IndexType.get(), axis))

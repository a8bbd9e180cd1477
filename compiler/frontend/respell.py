"""
Other spellings for calls that torch-mlir lowers wrongly, or not for all operands.

Each entry of RESPELLINGS takes the arguments of its op, with tensors as values or as fake tensors,
and returns the result by other ops, or NotImplemented where the op is fine as it is. All exact,
but attention in half precision, which is computed in fp32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._ops import OpOverload

aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *rest: Any,
    **more: Any,
) -> Any:
    """Half precision: torch-mlir's own op for it is not qcc's, and it rounds every step."""
    if query.dtype not in HALF:
        return NotImplemented
    if attn_mask is not None and attn_mask.is_floating_point():
        attn_mask = attn_mask.float()
    wide = (query.float(), key.float(), value.float(), attn_mask)
    result = aten.scaled_dot_product_attention.default(*wide, *rest, **more)
    return result.to(query.dtype)


def write_where(
    source: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Any:
    """x[mask] = number: torch-mlir crashes on masks."""
    mask = indices[0]
    if len(indices) != 1 or mask is None or mask.dtype != torch.bool:
        return NotImplemented
    if values.numel() != 1 or accumulate:
        return NotImplemented
    shape = [*mask.shape, *(1,) * (source.ndim - mask.ndim)]
    return torch.where(mask.reshape(shape), values.reshape(()).to(source.dtype), source)


def gather_points(source: Tensor, indices: Sequence[Tensor | None]) -> Any:
    """x[i, j] = x.flatten(0, 1)[i * n + j], where dynamic sizes keep torch-mlir from matching."""
    tensors = [index for index in indices if index is not None]
    if len(tensors) < 2 or len(tensors) != len(indices):
        return NotImplemented
    if any(index.dtype == torch.bool for index in tensors) or not _is_dynamic(source, *tensors):
        return NotImplemented
    position: Any = 0
    for axis, index in enumerate(tensors):
        size = source.shape[axis]
        position = position * size + torch.where(index < 0, index + size, index)
    return source.flatten(0, len(tensors) - 1)[position]


def pad_or_cut(source: Tensor, pad: Sequence[int], value: float = 0) -> Any:
    """Negative padding cuts off; torch-mlir would give the slice a negative offset."""
    if all(isinstance(amount, int) and amount >= 0 for amount in pad):
        return NotImplemented
    for place, amount in enumerate(pad):
        axis = source.ndim - 1 - place // 2
        if amount < 0:
            kept = source.shape[axis] + amount
            source = source.narrow(axis, 0 if place % 2 else -amount, kept)
    return aten.constant_pad_nd.default(source, [max(amount, 0) for amount in pad], value)


def average_of_unequal_windows(source: Tensor, output_size: Sequence[int]) -> Any:
    sizes = zip(source.shape[-2:], output_size, strict=True)
    if all(wanted == 1 or (isinstance(size, int) and size % wanted == 0) for size, wanted in sizes):
        return NotImplemented
    return decomposition_table[aten._adaptive_avg_pool2d.default](source, output_size)


def grids(tensors: Sequence[Tensor], indexing: str = "ij") -> Any:
    """Each tensor along its own axis, for torch-mlir crashes on more than one that is used."""
    axes = list(range(len(tensors)))
    if indexing == "xy" and len(tensors) > 1:
        axes[:2] = [1, 0]
    shape: list[Any] = [1] * len(tensors)
    for axis, tensor in zip(axes, tensors, strict=True):
        shape[axis] = tensor.numel()
    single = [[-1 if place == axis else 1 for place in range(len(tensors))] for axis in axes]
    pairs = zip(tensors, single, strict=True)
    return [tensor.reshape(alone).expand(shape) for tensor, alone in pairs]


def batched(spatial: int, op: OpOverload) -> Callable[..., Any]:
    """One image without a batch, for which torch-mlir's convolution crashes."""

    def respelled(source: Tensor, *rest: Any, **more: Any) -> Any:
        if source.ndim != spatial + 1:
            return NotImplemented
        return op(source.unsqueeze(0), *rest, **more).squeeze(0)

    return respelled


def _is_dynamic(*tensors: Tensor) -> bool:
    return any(not isinstance(size, int) for tensor in tensors for size in tensor.shape)


RESPELLINGS: dict[OpOverload, Callable[..., Any]] = {
    aten._adaptive_avg_pool2d.default: average_of_unequal_windows,
    aten.adaptive_avg_pool2d.default: average_of_unequal_windows,
    aten.constant_pad_nd.default: pad_or_cut,
    aten.conv1d.default: batched(1, aten.conv1d.default),
    aten.conv2d.default: batched(2, aten.conv2d.default),
    aten.conv3d.default: batched(3, aten.conv3d.default),
    aten.index.Tensor: gather_points,
    aten.index_put.default: write_where,
    aten.meshgrid.default: grids,
    aten.meshgrid.indexing: grids,
    aten.scaled_dot_product_attention.default: attention,
}

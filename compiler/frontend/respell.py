"""
Other spellings for calls that torch-mlir lowers wrongly, or not for all operands.

Each entry of RESPELLINGS takes the arguments of its op, with tensors as values or as fake tensors,
and returns the result by other ops, or NotImplemented where the op is fine as it is. All exact,
but for roundings; attention, sums and EXTREMES in half precision are computed in fp32 and rounded
once, and erfc has the absolute accuracy of erf, which is less than its own in its upper tail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._ops import OpOverload

from .respell_bytes import on_bytes
from .respell_complex import COMPLEX
from .respell_division import DIVISION
from .respell_extremes import EXTREMES, in_single
from .respell_images import IMAGES
from .respell_limits import LIMITS
from .respell_order import ORDER, along_counted_axis
from .respell_signals import SIGNALS

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
    """
    Attention of one rank, [batch, heads, tokens, depth], and in fp32.

    torch-mlir's own op, to which all else is lowered, rounds every step in half precision.
    """
    half, given = query.dtype in HALF, query
    query = _spread(query, key, value)
    rank_ = query.ndim
    if (rank_ == 4 and not half and query is given) or (
        rank_ > 4 and attn_mask is not None and attn_mask.ndim > 2
    ):
        return NotImplemented
    mask = attn_mask
    if mask is not None:
        mask = mask.float() if mask.is_floating_point() else mask
        mask = mask.unsqueeze(1) if rank_ == 3 and mask.ndim == 3 else mask
    q, k, v = (_of_rank_4(each.float() if half else each) for each in (query, key, value))
    result = aten.scaled_dot_product_attention.default(q, k, v, mask, *rest, **more)
    return result.reshape([*query.shape[:-1], value.shape[-1]]).to(query.dtype)


def _spread(query: Tensor, *others: Tensor) -> Tensor:
    """`query`, once for each of the others' batches and heads where it is shared by them."""
    for _ in range(max(other.ndim for other in others) - query.ndim):
        query = query.unsqueeze(0)
    shared = [isinstance(size, int) and size == 1 for size in query.shape]
    wider = {
        axis: other.shape[axis]
        for other in others
        for axis in range(-other.ndim, -2)
        if shared[axis] and not (isinstance(other.shape[axis], int) and other.shape[axis] == 1)
    }
    axes = range(-query.ndim, 0)
    return query.expand([wider.get(axis, -1) for axis in axes]) if wider else query


def _of_rank_4(tensor: Tensor) -> Tensor:
    if tensor.ndim > 4:
        return tensor.flatten(0, tensor.ndim - 4)
    return tensor if tensor.ndim == 4 else _of_rank_4(tensor.unsqueeze(-3))


def summed_in_single(op: OpOverload, otherwise: Callable[..., Any] | None) -> Callable[..., Any]:
    """
    torch-mlir adds half precision in half precision, where a sum of ones ends at 256.

    The op's tensors become fp32, and its results what `source` was; all are of one type.
    """

    def respelled(source: Tensor, *rest: Any, **more: Any) -> Any:
        given = any(isinstance(each, torch.dtype) for each in (*rest, *more.values()))
        if source.dtype not in HALF or given:
            return NotImplemented if otherwise is None else otherwise(source, *rest, **more)
        wide = {name: _widened(each) for name, each in more.items()}
        made = op(source.float(), *map(_widened, rest), **wide)
        if isinstance(made, tuple):
            return tuple(each.to(source.dtype) for each in made)
        return made.to(source.dtype)

    return respelled


def _widened(argument: Any) -> Any:
    is_half = isinstance(argument, Tensor) and argument.dtype in HALF
    return argument.float() if is_half else argument


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


def product(left: Tensor, right: Tensor) -> Any:
    """
    Products of stacked matrices as one batch of them, which qcc has a kernel for.

    One matrix on the right is shared by all rows, and so a layer's weight; it stays as it is.
    """
    if 1 in (left.ndim, right.ndim):
        return _product_with_vector(left, right)
    if right.ndim < 3 or not left.is_floating_point():
        return NotImplemented
    leading = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    stacks = (
        each.expand([*leading, *each.shape[-2:]]).flatten(0, len(leading) - 1)
        for each in (left, right)
    )
    return aten.bmm.default(*stacks).reshape([*leading, left.shape[-2], right.shape[-1]])


def _product_with_vector(left: Tensor, right: Tensor) -> Any:
    """A vector times a stack of matrices, as a matrix of one row or column."""
    if max(left.ndim, right.ndim) < 3:
        return NotImplemented
    if left.ndim == 1:
        return torch.matmul(left[None], right).squeeze(-2)
    return torch.matmul(left, right[:, None]).squeeze(-1)


def with_number(op: OpOverload) -> Callable[..., Any]:
    """A bitwise op with a number, by the same op on tensors."""
    return lambda left, right: op(left, torch.full_like(left, right))


def equal(left: Tensor, right: Tensor) -> Any:
    """NaN is not itself, though torch-mlir folds x == x."""
    if left is not right or not left.is_floating_point():
        return NotImplemented
    return ~torch.isnan(left)


def distances(left: Tensor, right: Tensor, p: float = 2.0, compute_mode: Any = None) -> Any:
    if p not in (1.0, 2.0):
        return NotImplemented
    apart = left.unsqueeze(-2) - right.unsqueeze(-3)
    return apart.abs().sum(-1) if p == 1.0 else (apart * apart).sum(-1).sqrt()


def with_sign_of(source: Tensor, sign: Tensor) -> Any:
    negative = (sign < 0) | ((sign == 0) & (1.0 / sign < 0))
    return torch.where(negative, -source.abs(), source.abs())


def mean_of_scattered(
    source: Tensor,
    dim: int,
    index: Tensor,
    values: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
) -> Any:
    """Sum over count: torch-mlir divides by the count of the wrong elements."""
    if reduce != "mean":
        counted = along_counted_axis(aten.scatter_reduce.two)
        return counted(source, dim, index, values, reduce, include_self=include_self)
    dim %= max(source.ndim, 1)
    ones = torch.ones_like(values)
    count = torch.full_like(source, int(include_self)).scatter_add(dim, index, ones)
    start = source if include_self else torch.zeros_like(source)
    exact = None if source.is_floating_point() else "floor"
    total = start.scatter_add(dim, index, values)
    mean = torch.div(total, count.clamp(min=1), rounding_mode=exact)
    return torch.where(count == 0, source, mean)


def softly_shrunk(source: Tensor, lambd: float = 0.5) -> Any:
    """torch-mlir's own is off by the threshold."""
    return torch.where(source.abs() > lambd, source - source.sign() * lambd, source * 0)


def _is_dynamic(*tensors: Tensor) -> bool:
    return any(not isinstance(size, int) for tensor in tensors for size in tensor.shape)


RESPELLINGS: dict[OpOverload, Callable[..., Any]] = {
    **COMPLEX,
    **DIVISION,
    **EXTREMES,
    **IMAGES,
    **LIMITS,
    **ORDER,
    **SIGNALS,
    aten._adaptive_avg_pool2d.default: average_of_unequal_windows,
    aten.__or__.Scalar: with_number(aten.bitwise_or.Tensor),
    aten.__xor__.Scalar: with_number(aten.bitwise_xor.Tensor),
    aten.adaptive_avg_pool2d.default: average_of_unequal_windows,
    aten.bitwise_or.Scalar: with_number(aten.bitwise_or.Tensor),
    aten.bitwise_xor.Scalar: with_number(aten.bitwise_xor.Tensor),
    aten.cdist.default: distances,
    aten.constant_pad_nd.default: pad_or_cut,
    aten.conv2d.default: batched(2, aten.conv2d.default),
    aten.conv3d.default: batched(3, aten.conv3d.default),
    aten.copysign.Tensor: with_sign_of,
    aten.eq.Tensor: equal,
    aten.erfc.default: in_single(lambda source: 1.0 - torch.erf(source)),
    aten.grid_sampler.default: decomposition_table[aten.grid_sampler_2d.default],
    aten.index.Tensor: gather_points,
    aten.index_put.default: write_where,
    aten.isfinite.default: lambda source: (source - source) == 0,
    aten.matmul.default: product,
    aten.meshgrid.default: grids,
    aten.meshgrid.indexing: grids,
    aten.scaled_dot_product_attention.default: attention,
    aten.scatter_reduce.two: mean_of_scattered,
    aten.softshrink.default: softly_shrunk,
}

SUMS = (
    aten._adaptive_avg_pool2d.default,
    aten._log_softmax.default,
    aten._softmax.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default,
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.avg_pool3d.default,
    aten.binary_cross_entropy.default,
    aten.binary_cross_entropy_with_logits.default,
    aten.cosine_embedding_loss.default,
    aten.cosine_similarity.default,
    aten.cross_entropy_loss.default,
    aten.cumprod.default,
    aten.cumsum.default,
    aten.dot.default,
    aten.frobenius_norm.dim,
    aten.group_norm.default,
    aten.huber_loss.default,
    aten.instance_norm.default,
    aten.kl_div.default,
    aten.l1_loss.default,
    aten.linalg_norm.default,
    aten.linalg_vector_norm.default,
    aten.log_softmax.int,
    aten.logsumexp.default,
    aten.mean.default,
    aten.mean.dim,
    aten.mse_loss.default,
    aten.native_group_norm.default,
    aten.nll_loss_forward.default,
    aten.norm.Scalar,
    aten.norm.ScalarOpt_dim,
    aten.poisson_nll_loss.default,
    aten.prod.default,
    aten.prod.dim_int,
    aten.smooth_l1_loss.default,
    aten.softmax.int,
    aten.std.correction,
    aten.std.default,
    aten.std.dim,
    aten.std_mean.correction,
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.trace.default,
    aten.var.correction,
    aten.var.default,
    aten.var.dim,
    aten.var_mean.correction,
    aten.var_mean.default,
    aten.var_mean.dim,
)

RESPELLINGS |= {op: summed_in_single(op, RESPELLINGS.get(op)) for op in SUMS}
RESPELLINGS |= on_bytes(RESPELLINGS)

"""Other spellings for what sorts, searches, accumulates and scatters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

aten = torch.ops.aten


def along_counted_axis(op: OpOverload) -> Callable[..., Any]:
    """Scattering along axis -1, which crashes torch-mlir, as along axis rank - 1."""

    def respelled(source: Tensor, dim: int, *rest: Any, **more: Any) -> Any:
        return op(source, dim + source.ndim, *rest, **more) if dim < 0 else NotImplemented

    return respelled


def order_statistic(source: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest value along an axis, and where it was."""
    if not source.ndim:
        return source.clone(), torch.zeros_like(source, dtype=torch.int64)
    values, places = torch.sort(source, dim)
    chosen = [each.narrow(dim, k - 1, 1) for each in (values, places)]
    return tuple(each if keepdim else each.squeeze(dim) for each in chosen)


def median_along(source: Tensor, dim: int, keepdim: bool = False) -> Any:
    """The lower of two middle values; NaN where there is one, as torch has it."""
    size = source.shape[dim] if source.ndim else 1
    values, places = order_statistic(source, (size + 1) // 2, dim, keepdim)
    if not source.is_floating_point():
        return values, places
    unknown = source.isnan().any(dim, keepdim)
    first = source.isnan().to(torch.int64).argmax(dim, keepdim)
    return torch.where(unknown, torch.nan, values), torch.where(unknown, first, places)


def median(source: Tensor) -> Any:
    return median_along(source.flatten(), 0)[0]


def places_among(
    edges: Tensor,
    values: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Any:
    """How many of the sorted `edges` [..., n] are below each of `values` [..., m]."""
    if sorter is not None:
        edges = edges.gather(-1, sorter)
    if edges.ndim > 1:
        edges = edges.unsqueeze(-2)
    below = edges <= values.unsqueeze(-1) if right or side == "right" else edges < values[..., None]
    return below.sum(-1).to(torch.int32 if out_int32 else torch.int64)


def place_of(extreme: OpOverload) -> Callable[..., Any]:
    """argmax, argmin: where the first NaN is, if there is one, which torch-mlir passes over."""

    def respelled(source: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
        if not source.is_floating_point() or not source.ndim:
            return NotImplemented
        if dim is None:
            place = respelled(source.flatten(), 0)
            return place.reshape([1] * source.ndim) if keepdim else place
        best = extreme(source, [dim], True)
        found = torch.where(best.isnan(), source.isnan(), source == best)
        return found.to(torch.int64).argmax(dim, keepdim)

    return respelled


def extreme_and_place(extreme: OpOverload) -> Callable[..., Any]:
    """max or min along an axis."""

    def respelled(source: Tensor, dim: int, keepdim: bool = False) -> Any:
        place = place_of(extreme)(source, dim, keepdim)
        return place if place is NotImplemented else (extreme(source, [dim], keepdim), place)

    return respelled


def logarithm_of_running_sum(source: Tensor, dim: int) -> Any:
    """Each sum relative to the largest of its own terms: torch-mlir's own overflows."""
    rows, _ = _prefixes(source, dim, float("-inf"))
    return torch.logsumexp(rows, -1).movedim(-1, dim)


def running_extreme(smallest: bool) -> Callable[..., Any]:
    """cummax or cummin; of equal values the last counts, and a NaN stays."""

    def respelled(source: Tensor, dim: int) -> Any:
        if not source.is_floating_point():
            return NotImplemented
        rows, earlier = _prefixes(source, dim, float("inf") if smallest else float("-inf"))
        best = rows.amin(-1, keepdim=True) if smallest else rows.amax(-1, keepdim=True)
        is_best = torch.where(best.isnan(), rows.isnan(), rows == best) & earlier
        place = torch.arange(rows.shape[-1], device=rows.device)
        index = torch.where(is_best, place, -1).amax(-1)
        return best.squeeze(-1).movedim(-1, dim), index.movedim(-1, dim)

    return respelled


def _prefixes(source: Tensor, dim: int, absent: float) -> tuple[Tensor, Tensor]:
    """x [..., n] along `dim` → [..., n, n], row i holding x[: i + 1] and then `absent`."""
    moved = source.movedim(dim, -1)
    place = torch.arange(moved.shape[-1], device=source.device)
    earlier = place <= place[:, None]
    return torch.where(earlier, moved.unsqueeze(-2), absent), earlier


def embedded_bags(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """
    The sum (mode 0), mean (1) or maximum (2) of the rows of each bag.

    Bag b holds the indices from offsets[b] on, up to the next offset; an empty bag gives zeros.
    """
    if indices.ndim != 1:
        return NotImplemented
    starts = offsets[:-1] if include_last_offset else offsets
    place = torch.arange(indices.shape[0], device=indices.device)
    bag = ((place[:, None] >= starts).sum(-1) - 1).clamp(min=0)  # whatever the offsets hold
    counted = torch.ones_like(indices, dtype=torch.bool)
    if padding_idx is not None and padding_idx >= 0:
        counted = indices != padding_idx
    rows = aten.embedding.default(weight, indices)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[:, None]
    count = _zeros(weight, starts.shape[0]).index_add(0, bag, counted.to(weight.dtype))
    bags = _zeros(weight, starts.shape[0], weight.shape[1])
    if mode == 2:
        rows = torch.where(counted[:, None], rows, float("-inf"))
        into = bag[:, None].expand(-1, weight.shape[1])
        found = torch.full_like(bags, float("-inf")).scatter_reduce(0, into, rows, "amax")
        result = torch.where(count[:, None] > 0, found, 0.0)
    else:
        result = bags.index_add(0, bag, torch.where(counted[:, None], rows, 0.0))
        result = result / count.clamp(min=1)[:, None] if mode == 1 else result
    return result, bag, count.to(indices.dtype), torch.zeros_like(starts)


def _zeros(like: Tensor, *shape: Any) -> Tensor:
    return torch.zeros(shape, dtype=like.dtype, device=like.device)


ORDER: dict[OpOverload, Callable[..., Any]] = {
    aten._embedding_bag.default: embedded_bags,
    aten._embedding_bag_forward_only.default: embedded_bags,
    aten.argmax.default: place_of(aten.amax.default),
    aten.argmin.default: place_of(aten.amin.default),
    aten.cummax.default: running_extreme(smallest=False),
    aten.cummin.default: running_extreme(smallest=True),
    aten.embedding_bag.padding_idx: embedded_bags,
    aten.kthvalue.default: order_statistic,
    aten.logcumsumexp.default: logarithm_of_running_sum,
    aten.max.dim: extreme_and_place(aten.amax.default),
    aten.median.default: median,
    aten.median.dim: median_along,
    aten.min.dim: extreme_and_place(aten.amin.default),
    aten.scatter.reduce: along_counted_axis(aten.scatter.reduce),
    aten.scatter.src: along_counted_axis(aten.scatter.src),
    aten.scatter.value: along_counted_axis(aten.scatter.value),
    aten.scatter_add.default: along_counted_axis(aten.scatter_add.default),
    aten.searchsorted.Tensor: places_among,
}

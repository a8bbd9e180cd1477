"""Other spellings for resizing and pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

aten = torch.ops.aten


def maximum_of_unequal_windows(source: Tensor, output_size: Sequence[int]) -> Any:
    """torch-mlir's windows have one size and one stride."""
    sizes = source.shape[-2:]
    if all(wanted == 1 for wanted in output_size):
        values, places = source.flatten(-2).max(-1, keepdim=True)
        return values.unsqueeze(-1), places.unsqueeze(-1)
    if any(not isinstance(size, int) or not size for size in (*sizes, *output_size)):
        return NotImplemented
    if all(size % wanted == 0 for size, wanted in zip(sizes, output_size, strict=True)):
        return NotImplemented
    rows, columns = (_windows(*pair) for pair in zip(sizes, output_size, strict=True))
    picked = source.index_select(-2, rows.flatten()).index_select(-1, columns.flatten())
    picked = picked.unflatten(-1, columns.shape).unflatten(-3, rows.shape)
    values, places = picked.movedim(-3, -2).flatten(-2).max(-1)
    pixels = (rows[:, None, :, None] * sizes[1] + columns[:, None]).flatten(-2)
    return values, pixels.expand(*values.shape, -1).gather(-1, places.unsqueeze(-1)).squeeze(-1)


def _windows(size: int, wanted: int) -> Tensor:
    """The places [wanted, n] that each window covers, shorter ones ending with repetitions."""
    window = torch.arange(wanted)
    first, last = window * size // wanted, ((window + 1) * size - 1) // wanted
    longest = max((i + 1) * size // -wanted * -1 - i * size // wanted for i in range(wanted))
    return torch.minimum(first[:, None] + torch.arange(longest), last[:, None])


def antialiased(support: float, kernel: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """
    Resizing [..., h, w] by one matrix an axis, whose rows sample `kernel`.

    The kernel reaches `support` pixels, and is widened by the scale where the picture shrinks.
    """

    def respelled(
        source: Tensor,
        output_size: Sequence[int],
        align_corners: bool,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Any:
        if any(not isinstance(size, int) for size in (*source.shape[-2:], *output_size)):
            return NotImplemented

        def matrix(axis: int, given: float | None) -> Tensor:
            old, new = source.shape[axis], output_size[axis]
            if align_corners:
                scale = (old - 1) / (new - 1) if new > 1 else 0.0
            else:
                scale = 1 / given if given else old / new
            width = max(scale, 1.0)
            centre = (torch.arange(new)[:, None] + 0.5) * scale
            # torch takes whole pixels from round(centre - reach) to round(centre + reach).
            reach, pixel = support * width, torch.arange(old)
            first, end = (centre - reach + 0.5).floor(), (centre + reach + 0.5).floor()
            near = (pixel >= first) & (pixel < end)
            weight = torch.where(near, kernel((pixel + 0.5 - centre) / width), 0.0)
            return (weight / weight.sum(1, keepdim=True)).to(source.dtype)

        wide = source @ matrix(-1, scales_w).T
        return matrix(-2, scales_h) @ wide

    return respelled


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' kernel with a = -1/2, as torch (after Pillow) has it where it is antialiased."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


IMAGES: dict[OpOverload, Callable[..., Any]] = {
    aten._upsample_bicubic2d_aa.default: antialiased(2.0, _cubic),
    aten._upsample_bilinear2d_aa.default: antialiased(1.0, _triangle),
    aten.adaptive_max_pool2d.default: maximum_of_unequal_windows,
}

"""Other spellings for convolutions of signals: as those of images, which are layers of qcc."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

aten = torch.ops.aten


def along_one_row(
    source: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Any:
    """A convolution of signals as one of images of one row, which qcc has kernels for."""
    images = source.unsqueeze(-2)
    window = ([1, *stride], [0, *padding], [1, *dilation])
    made = aten.conv2d.default(
        images if source.ndim == 3 else images.unsqueeze(0),
        weight.unsqueeze(-2), bias, *window, groups,
    )  # fmt: skip
    made = made.squeeze(-2)
    return made if source.ndim == 3 else made.squeeze(0)


def convolution_along_one_row(
    source: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    """What `Conv1d(padding="same")` is decomposed to."""
    if weight.ndim != 3 or transposed:
        return NotImplemented
    return along_one_row(source, weight, bias, stride, padding, dilation, groups)


SIGNALS: dict[OpOverload, Callable[..., Any]] = {
    aten.conv1d.default: along_one_row,
    aten.convolution.default: convolution_along_one_row,
}

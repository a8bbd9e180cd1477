"""
A U-Net (Ronneberger et al. 2015): max pool down, up by interpolation and by transposed convolution.

The two ways up are both in use; one level takes each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from .family import DynamicShapes
from .seeding import normal, seeded


def double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """float32 images [batch, inputs, height, width], sizes multiples of 4 -> one logit a class."""

    def __init__(self, inputs: int, classes: int, width: int) -> None:
        super().__init__()
        self.down1 = double(inputs, width)
        self.down2 = double(width, 2 * width)
        self.bottom = double(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.join2 = double(4 * width, 2 * width)
        self.join1 = double(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        coarse = self.down2(F.max_pool2d(fine, 2))
        y = self.bottom(F.max_pool2d(coarse, 2))
        y = self.join2(torch.cat((coarse, self.up2(y)), dim=1))
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        return self.head(self.join1(torch.cat((fine, y), dim=1)))


def tiny() -> UNet:
    return seeded(lambda: UNet(inputs=3, classes=4, width=8))


def example_inputs() -> tuple[Tensor, ...]:
    return (normal((2, 3, 32, 32)),)


def dynamic_shapes() -> DynamicShapes:
    return ({0: Dim("batch", max=64)},)

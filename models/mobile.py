"""
A mobile CNN in the manner of MobileNetV3 (Howard et al. 2019): inverted residuals with depthwise
convolutions, hard swish, squeeze-and-excite.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from .family import DynamicShapes
from .seeding import normal, seeded


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channel means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.excite(F.relu(self.squeeze(means))))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, inner: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.depthwise = nn.Conv2d(
            inner, inner, kernel, stride, padding=kernel // 2, groups=inner, bias=False
        )
        self.bn2 = nn.BatchNorm2d(inner)
        self.attend = SqueezeExcite(inner)
        self.project = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.bn1(self.expand(x)))
        y = self.attend(F.hardswish(self.bn2(self.depthwise(y))))
        y = self.bn3(self.project(y))
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """float32 images [batch, 3, height, width] -> logits [batch, classes]."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(
            InvertedResidual(16, 32, 16, kernel=3, stride=1),
            InvertedResidual(16, 48, 24, kernel=5, stride=2),
            InvertedResidual(24, 72, 24, kernel=5, stride=1),
        )
        self.classifier = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.hardswish(self.bn(self.stem(x))))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


def tiny() -> MobileNet:
    return seeded(MobileNet)


def example_inputs() -> tuple[Tensor, ...]:
    return (normal((2, 3, 32, 32)),)


def dynamic_shapes() -> DynamicShapes:
    return ({0: Dim("batch", max=256)},)

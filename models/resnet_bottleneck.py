"""
A bottleneck ResNet in the manner of ResNet-50 and ResNeXt: strided stem, max pool, blocks of 1x1,
grouped 3x3 and 1x1 convolutions, and a projection where the shape changes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from .family import DynamicShapes
from .seeding import normal, seeded


class Bottleneck(nn.Module):
    """`groups` equal to the inner width makes the 3x3 convolution depthwise."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        inner = outputs // 4
        self.reduce = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.expand = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.reduce(x)))
        y = F.relu(self.bn2(self.conv(y)))
        return F.relu(self.bn3(self.expand(y)) + self.shortcut(x))


class BottleneckResNet(nn.Module):
    """float32 images [batch, 3, height, width] -> logits [batch, classes]."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.blocks = nn.Sequential(
            Bottleneck(16, 64, stride=1, groups=1),
            Bottleneck(64, 64, stride=1, groups=4),
            Bottleneck(64, 128, stride=2, groups=32),
        )
        self.fc = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.pool(F.relu(self.bn(self.stem(x)))))
        return self.fc(x.mean(dim=(2, 3)))


def tiny() -> BottleneckResNet:
    return seeded(BottleneckResNet)


def example_inputs() -> tuple[Tensor, ...]:
    return (normal((2, 3, 32, 32)),)


def dynamic_shapes() -> DynamicShapes:
    return ({0: Dim("batch", max=256)},)

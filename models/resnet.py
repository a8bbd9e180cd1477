"""
The CIFAR ResNets of He et al. (2015, section 4.2): 6n + 2 layers in stages of 16, 32, 64 channels.

Shortcuts that change shape have no weights ("option A"): every second pixel, new channels zero.
Parameter names are those of the widely shared checkpoints.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from .family import DynamicShapes
from .seeding import normal, seeded


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.margin = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        if self.margin == 0:
            return x
        sampled = x[:, :, :: self.stride, :: self.stride]
        return F.pad(sampled, (0, 0, 0, 0, self.margin, self.margin))


class CifarResNet(nn.Module):
    """float32 images [batch, 3, 32, 32] -> logits [batch, classes]."""

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, blocks, stride=1)
        self.layer2 = stage(16, 32, blocks, stride=2)
        self.layer3 = stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(inputs, outputs, stride), *rest)


def resnet20() -> CifarResNet:
    return CifarResNet(blocks=3)


def resnet56() -> CifarResNet:
    return CifarResNet(blocks=9)


def tiny() -> CifarResNet:
    """ResNet-8: a block a stage, 75 thousand parameters."""
    return seeded(lambda: CifarResNet(blocks=1))


def example_inputs() -> tuple[Tensor, ...]:
    return (normal((2, 3, 32, 32)),)


def dynamic_shapes() -> DynamicShapes:
    return ({0: Dim("batch", max=256)},)

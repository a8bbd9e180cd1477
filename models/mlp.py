"""A multilayer perceptron: linear layers with biases and GELU between them."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.export import Dim

from .family import DynamicShapes
from .seeding import normal, seeded


class MLP(nn.Module):
    """[batch, features] -> [batch, classes]; `widths` runs from features to classes."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def tiny() -> MLP:
    return seeded(lambda: MLP((64, 128, 128, 10)))


def example_inputs() -> tuple[Tensor, ...]:
    return (normal((4, 64)),)


def dynamic_shapes() -> DynamicShapes:
    return ({0: Dim("batch", max=1024)},)

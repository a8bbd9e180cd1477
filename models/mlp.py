"""A multilayer perceptron: linear layers with biases and GELU between them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.export import Dim

from .family import DynamicShapes
from .seeding import normal, seeded


class MLP(nn.Module):
    """[batch, features] -> [batch, classes]; `widths` runs from features to classes."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
        for inputs, outputs in zip(widths[1:-1], widths[2:], strict=True):
            layers += [nn.GELU(), nn.Linear(inputs, outputs)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def tiny() -> MLP:
    return seeded(lambda: MLP((64, 128, 128, 10)))


def example_inputs() -> tuple[Tensor, ...]:
    return (normal((4, 64)),)


def dynamic_shapes() -> DynamicShapes:
    return ({0: Dim("batch", max=1024)},)

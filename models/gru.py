"""A sequence classifier on torch's own GRU: the last hidden state through a linear layer."""

from __future__ import annotations

from torch import Tensor, nn
from torch.export import Dim

from .family import DynamicShapes
from .seeding import normal, seeded


class GRUClassifier(nn.Module):
    """float32 [batch, time, features] -> logits [batch, classes]."""

    def __init__(self, features: int, width: int, layers: int, classes: int = 10) -> None:
        super().__init__()
        self.gru = nn.GRU(features, width, num_layers=layers, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(x)
        return self.head(states[:, -1])


def tiny() -> GRUClassifier:
    return seeded(lambda: GRUClassifier(features=24, width=48, layers=1))


def example_inputs() -> tuple[Tensor, ...]:
    return (normal((3, 8, 24)),)


def dynamic_shapes() -> DynamicShapes:
    """The batch only: the recurrence is unrolled over time."""
    return ({0: Dim("batch", max=256)},)

"""A decoder small enough for emulated DPUs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class Decoder(nn.Module):
    """Causal attention of one head over tokens, an activation where one is given, and logits."""

    def __init__(self, activation: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 8)
        self.q, self.k, self.v, self.head = (nn.Linear(8, 8, bias=False) for _ in range(4))
        self.activation = activation

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens)
        heads = [each(x).unsqueeze(1) for each in (self.q, self.k, self.v)]
        y = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)[:, 0]
        return self.head(y if self.activation is None else self.activation(y))

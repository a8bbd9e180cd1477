"""
A BERT encoder (Devlin et al. 2018): learned positions, norms after each residual, erf GELU.

Parameter names are those of the usual checkpoints, so that MiniLM loads without a table of names.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from .family import DynamicShapes
from .seeding import seeded


@dataclass(frozen=True, slots=True)
class BertConfig:
    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    positions: int = 512
    token_types: int = 2
    norm_eps: float = 1e-12


class Embeddings(nn.Module):
    """Word, position and token type (always type 0) added up and normalized."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(config.token_types, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        place = self.position_embeddings(positions) + self.token_type_embeddings.weight[0]
        return self.LayerNorm(self.word_embeddings(tokens) + place)


class SelfAttention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.head_size = config.width // config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (self.split_heads(part(x)) for part in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return mixed.transpose(1, 2).flatten(2)

    def split_heads(self, x: Tensor) -> Tensor:
        """[batch, time, heads * head_size] -> [batch, heads, time, head_size]."""
        return x.unflatten(-1, (-1, self.head_size)).transpose(1, 2)


class Output(nn.Module):
    """Project back to the model's width, add the residual, then normalize."""

    def __init__(self, config: BertConfig, inputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(config), "output": Output(config, config.width)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.width, config.hidden)})
        self.output = Output(config, config.hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class Bert(nn.Module):
    """int64 tokens and 0/1 mask, both [batch, time] -> hidden states [batch, time, width]."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.encoder = nn.ModuleDict({"layer": layers})

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.embeddings(tokens)
        lowest = torch.finfo(x.dtype).min
        additive = ((1.0 - mask.to(x.dtype)) * lowest)[:, None, None, :]
        for layer in self.encoder["layer"].children():
            x = layer(x, additive)
        return x


TINY = BertConfig(vocabulary=128, width=64, layers=2, heads=4, hidden=128, positions=64)


def tiny() -> Bert:
    return seeded(lambda: Bert(TINY))


def example_inputs() -> tuple[Tensor, ...]:
    tokens = torch.arange(24).reshape(2, 12) * 5 % TINY.vocabulary
    lengths = torch.tensor([[12], [7]])
    return tokens, (torch.arange(12) < lengths).long()


def dynamic_shapes() -> DynamicShapes:
    batch, time = Dim("batch", max=64), Dim("time", max=TINY.positions)
    return {0: batch, 1: time}, {0: batch, 1: time}

"""A GPT-2 decoder: learned positions, norms before sublayers, q, k, v in one matrix, tied head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from .family import DynamicShapes
from .seeding import seeded


@dataclass(frozen=True, slots=True)
class GPT2Config:
    vocabulary: int
    width: int
    layers: int
    heads: int
    positions: int = 1024


class Attention(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.head_size = config.width // config.heads
        self.c_attn = nn.Linear(config.width, 3 * config.width)
        self.c_proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.split_heads(part) for part in self.c_attn(x).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).flatten(2))

    def split_heads(self, x: Tensor) -> Tensor:
        """[batch, time, heads * head_size] -> [batch, heads, time, head_size]."""
        return x.unflatten(-1, (-1, self.head_size)).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.width)
        self.c_fc = nn.Linear(config.width, 4 * config.width)
        self.c_proj = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    """int64 tokens [batch, time] -> logits [batch, time, vocabulary]."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocabulary, config.width)
        self.wpe = nn.Embedding(config.positions, config.width)
        self.h = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.ln_f = nn.LayerNorm(config.width)
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.02)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.wte(tokens) + self.wpe(positions)
        return self.lm_head(self.ln_f(self.h(x)))


TINY = GPT2Config(vocabulary=128, width=64, layers=2, heads=4, positions=64)


def tiny() -> GPT2:
    return seeded(lambda: GPT2(TINY))


def gpt2_small() -> GPT2:
    """The 124 M parameter shape, with random weights."""
    return seeded(lambda: GPT2(GPT2Config(vocabulary=50257, width=768, layers=12, heads=12)))


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.arange(32).reshape(2, 16) * 7 % TINY.vocabulary,)


def dynamic_shapes() -> DynamicShapes:
    return ({0: Dim("batch", max=64), 1: Dim("time", max=TINY.positions)},)

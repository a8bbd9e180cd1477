"""
A Llama decoder: RMSNorm, rotary positions (half-split), grouped-query attention, SwiGLU.

Module names are those of the usual checkpoints (`layers.0.self_attn.q_proj`), so that recipes carry
over. The traced graph is kept short on purpose: 32 nodes a layer, rotary angles computed once.
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
class LlamaConfig:
    """The shape of a Llama; `width` is a multiple of `heads`, and `heads` one of `kv_heads`."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = False

    @property
    def head_size(self) -> int:
        """
        >>> LlamaConfig(49152, 576, 30, 9, 3, 1536).head_size
        64
        """
        return self.width // self.heads


def inverse_frequencies(config: LlamaConfig) -> Tensor:
    """Radians a position for each pair of a head, float32 [head_size / 2]; always on the CPU."""
    exponent = torch.arange(0, config.head_size, 2, dtype=torch.float64, device="cpu")
    return (config.rope_base ** (-exponent / config.head_size)).float()


class Attention(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.head_size = config.head_size
        self.groups = config.heads // config.kv_heads
        kv_width = config.kv_heads * config.head_size
        self.q_proj = nn.Linear(config.width, config.width, bias=False)
        self.k_proj = nn.Linear(config.width, kv_width, bias=False)
        self.v_proj = nn.Linear(config.width, kv_width, bias=False)
        self.o_proj = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q = rotate(self.split_heads(self.q_proj(x)), cos, sin)
        k = rotate(self.split_heads(self.k_proj(x)), cos, sin)
        v = self.split_heads(self.v_proj(x))
        if self.groups > 1:
            k = k.repeat_interleave(self.groups, dim=1)
            v = v.repeat_interleave(self.groups, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def split_heads(self, x: Tensor) -> Tensor:
        """[batch, time, heads * head_size] -> [batch, heads, time, head_size]."""
        return x.unflatten(-1, (-1, self.head_size)).transpose(1, 2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """
    Turn the pairs (x[i], x[i + half]); `sin` carries the minus of its first half.

    Rolling by half the head swaps the halves, which costs one node where the usual negate-and-
    concatenate costs four, with the same values bit for bit.
    """
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin


class FeedForward(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """int64 tokens [batch, time] -> logits [batch, time, vocabulary]."""

    inv_freq: Tensor

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)
        # Kept in checkpoints: a model built on the meta device gets its values from the file.
        device = self.embed_tokens.weight.device
        self.register_buffer("inv_freq", inverse_frequencies(config).to(device))
        self.tie()

    def tie(self) -> None:
        """Make the head the embedding's own tensor, where the configuration says so."""
        if self.config.tied:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        cos, sin = self.rotary(tokens)
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.norm(x))

    def rotary(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines [time, head_size] for `rotate`."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        angles = positions[:, None] * self.inv_freq
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


TINY = LlamaConfig(vocabulary=128, width=64, layers=2, heads=4, kv_heads=2, hidden=128)


def tiny() -> Llama:
    return seeded(lambda: Llama(TINY))


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.arange(32).reshape(2, 16) * 7 % TINY.vocabulary,)


def dynamic_shapes() -> DynamicShapes:
    return ({0: Dim("batch", max=64), 1: Dim("time", max=1024)},)

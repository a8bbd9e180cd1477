"""Token-by-token generation with a KV cache in eager torch, on the modules of qcc.models.llama."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from qcc.models.llama import Attention, Layer, Llama, rotate


class EagerDecoder:
    """
    A Llama with preallocated caches: the peer that compiled generation is timed against.

    Keys and values are written in place, so that a step copies nothing but its own.
    """

    def __init__(self, model: Llama, capacity: int, batch: int = 1) -> None:
        config = model.config
        shape = (2, batch, config.kv_heads, capacity, config.head_size)
        self.model = model
        self.length = 0
        self._layers = [cast(Layer, layer) for layer in model.layers]
        self._caches = [torch.zeros(shape) for _ in self._layers]
        self._cos, self._sin = model.rotary(torch.zeros(1, capacity))

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        """Logits [batch, T, vocabulary] of int64 tokens [batch, T] that follow those before."""
        start, end = self.length, self.length + tokens.shape[1]
        cos, sin = self._cos[start:end], self._sin[start:end]
        x = self.model.embed_tokens(tokens)
        for layer, cache in zip(self._layers, self._caches, strict=True):
            normed = layer.input_layernorm(x)
            x = x + attend(layer.self_attn, normed, cos, sin, cache, start)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        self.length = end
        return self.model.lm_head(self.model.norm(x))


def attend(
    attention: Attention, x: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, start: int
) -> Tensor:
    """`attention` over what `cache` [2, batch, kv_heads, capacity, head] holds and over `x`."""
    end = start + x.shape[1]
    q = rotate(attention.split_heads(attention.q_proj(x)), cos, sin)
    cache[0, :, :, start:end] = rotate(attention.split_heads(attention.k_proj(x)), cos, sin)
    cache[1, :, :, start:end] = attention.split_heads(attention.v_proj(x))
    key, value = cache[:, :, :, :end]
    # A single new token sees everything; a first call of several is causal from the start.
    if start and x.shape[1] > 1:
        mask = torch.ones(x.shape[1], end, dtype=torch.bool).tril(start)
        mixed = F.scaled_dot_product_attention(q, key, value, attn_mask=mask, enable_gqa=True)
    else:
        causal = x.shape[1] > 1
        mixed = F.scaled_dot_product_attention(q, key, value, is_causal=causal, enable_gqa=True)
    return attention.o_proj(mixed.transpose(1, 2).flatten(2))

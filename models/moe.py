"""
A mixture-of-experts block: softmax routing to the best `active` of several SwiGLU experts.

Every expert sees every token and the gates of the unchosen ones are zero. That computes more than a
gathered form but has no data-dependent shape, so it exports. The norm is spelled
out: pow, mean, rsqrt.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from .family import DynamicShapes
from .seeding import normal, seeded


class SpelledRMSNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width).uniform_(0.5, 1.5))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Expert(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MixtureOfExperts(nn.Module):
    """float32 [batch, time, width] -> the same shape, residual included."""

    def __init__(self, width: int, hidden: int, experts: int, active: int) -> None:
        super().__init__()
        self.active = active
        self.norm = SpelledRMSNorm(width)
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(Expert(width, hidden) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        gates = self.gates(normed).unsqueeze(-2)
        outputs = torch.stack([expert(normed) for expert in self.experts], dim=-1)
        return x + (outputs * gates).sum(-1)

    def gates(self, x: Tensor) -> Tensor:
        """[..., experts]: the softmax over the `active` largest router scores, elsewhere zero."""
        scores, chosen = self.router(x).topk(self.active, dim=-1)
        shares = scores.softmax(dim=-1)
        one_hot = F.one_hot(chosen, len(self.experts)).to(shares.dtype)
        return (one_hot * shares.unsqueeze(-1)).sum(-2)


def tiny() -> MixtureOfExperts:
    return seeded(lambda: MixtureOfExperts(width=64, hidden=128, experts=4, active=2))


def example_inputs() -> tuple[Tensor, ...]:
    return (normal((2, 12, 64)),)


def dynamic_shapes() -> DynamicShapes:
    return ({0: Dim("batch", max=64), 1: Dim("time", max=1024)},)

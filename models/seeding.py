"""Deterministic weights for the small models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.RMSNorm)


def seeded(build: Callable[[], Module], seed: int = 0) -> Module:
    """
    The module of `build` in eval mode, without gradients, the same at each call.

    Norms get uneven weights and statistics: on the ones and zeros of a fresh norm a compiler that
    dropped one would pass unnoticed. Torch's global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build()
        for part in module.modules():
            if isinstance(part, NORMS):
                unsettle(part)
    return module.eval().requires_grad_(False)


def unsettle(norm: nn.Module) -> None:
    """Draw the norm's scales and variances from [0.5, 1.5), its shifts and means from N(0, 0.1)."""
    with torch.no_grad():
        for name, tensor in [*norm.named_parameters(), *norm.named_buffers()]:
            if name in ("weight", "running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name in ("bias", "running_mean"):
                tensor.normal_(std=0.1)


def normal(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Reproducible standard normal float32 values, for example inputs."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

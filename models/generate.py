"""Greedy text generation with any function from tokens to logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def greedy(logits: Callable[[Tensor], Any], tokens: Sequence[int], count: int) -> list[int]:
    """
    The `count` tokens that follow, each the likeliest.

    `logits` maps int64 [1, time] to [1, time, vocabulary], torch or NumPy. The whole sequence is
    run again for each token; a compiled model's own generation keeps a cache instead.
    """
    sequence = list(tokens)
    with torch.no_grad():
        for _ in range(count):
            last = np.asarray(logits(torch.tensor([sequence])))[0, -1]
            sequence.append(int(last.argmax()))
    return sequence[len(tokens) :]

"""
Perplexity, rank correlation, accuracy: one way to measure eager and compiled models.

Each takes a plain function, so `model`, `model.forward` or a compiled artifact will do; results may
come back as torch tensors or NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .assets import AssetError


class Perplexity(NamedTuple):
    """exp of the mean negative log-likelihood (nats) over `scored` tokens."""

    value: float
    scored: int


class Pair(NamedTuple):
    """Two sentences and how alike people found them, 0 to 5."""

    score: float
    first: str
    second: str


def perplexity(
    logits: Callable[[Tensor], Any],
    tokens: Sequence[int] | np.ndarray,
    windows: int | None = None,
    length: int = 1024,
) -> Perplexity:
    """
    Perplexity over the first `windows` windows of `length` tokens, or all whole ones.

    `logits` maps int64 [1, length] to [1, length, vocabulary]. Windows do not overlap; each is
    scored at its positions 1 ... length - 1, and nothing is carried from one to the next.
    """
    ids = torch.as_tensor(np.asarray(tokens, dtype=np.int64))
    available = len(ids) // length
    count = available if windows is None else windows
    if not 1 <= count <= available:
        raise ValueError(f"{count} windows of {length} tokens asked, {available} available")
    total = 0.0
    for window in ids[: count * length].reshape(count, 1, length):
        with torch.no_grad():
            scores = logits(window)
        total += negative_log_likelihood(np.asarray(scores)[0, :-1], window[0, 1:].numpy())
    scored = count * (length - 1)
    return Perplexity(float(np.exp(total / scored)), scored)


def negative_log_likelihood(logits: np.ndarray, targets: np.ndarray, rows: int = 128) -> float:
    """
    Sum over positions of log(sum(exp(logits))) - logits[target], in nats.

    `rows` positions at a time: a whole window against 49,152 tokens would be 400 MB in float64.
    """
    total = 0.0
    for start in range(0, len(targets), rows):
        part = logits[start : start + rows].astype(np.float64)
        wanted = part[np.arange(len(part)), targets[start : start + rows]]
        peak = part.max(axis=1)
        total += float((np.log(np.exp(part - peak[:, None]).sum(axis=1)) + peak - wanted).sum())
    return total


def read_sts(path: str | Path) -> list[Pair]:
    """Lines of score TAB sentence TAB sentence, unquoted; those without a score are skipped."""
    pairs = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), start=1):
        if not line or line.startswith("\t"):
            continue
        pairs.append(parse_pair(line.removesuffix("\r"), f"{path}:{number}"))
    return pairs


def parse_pair(line: str, place: str) -> Pair:
    fields = line.split("\t")
    try:
        score, first, second = fields
        return Pair(float(score), first, second)
    except ValueError:
        wanted = "score TAB sentence TAB sentence"
        raise AssetError(f"{place}: expected {wanted}; correct or drop the line") from None


def similarity_correlation(
    embed: Callable[[Sequence[str]], np.ndarray], pairs: Sequence[Pair]
) -> float:
    """Spearman correlation of the cosine similarities with the scores, -1 to 1."""
    first = unit(embed([pair.first for pair in pairs]))
    second = unit(embed([pair.second for pair in pairs]))
    return spearman((first * second).sum(axis=1), np.array([pair.score for pair in pairs]))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """
    Pearson correlation of the ranks; equal values share their mean rank.

    >>> round(spearman(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])), 3)
    0.8
    """
    return float(np.corrcoef(ranks(x), ranks(y))[0, 1])


def ranks(values: np.ndarray) -> np.ndarray:
    """
    >>> ranks(np.array([10, 30, 20, 30])).tolist()
    [1.0, 3.5, 2.0, 3.5]
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def top1(
    classify: Callable[[Tensor], Any], images: Tensor, labels: np.ndarray, batch: int = 100
) -> float:
    """The share of images whose largest logit is at their label, 0 to 1."""
    hits = 0
    with torch.no_grad():
        for start in range(0, len(images), batch):
            logits = np.asarray(classify(images[start : start + batch]))
            hits += int((logits.argmax(axis=1) == labels[start : start + batch]).sum())
    return hits / len(images)

"""What a peer brings to the comparison: one linear layer y = x · Wᵀ in its own number formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Step = Callable[[int], object]
"""Computes the layer with the weights of copy number so-and-so; what it returns is the result."""

# Relative root mean square error against the dequantized weights times the same activations: what
# rounding the activations to the type may cost at most, far below any wrong result.
TOLERANCES = {"fp32": 1e-3, "bf16": 2e-2, "int8": 4e-2}


@dataclass(frozen=True, slots=True)
class Variant:
    """
    One row of the table.

    `width` is the class it competes in: the bits of a weight's code. `compute` names what its
    products are made of (fp32, bf16, int8) and so the limit that holds for it.
    """

    name: str
    width: int
    compute: str = "fp32"


Packed = tuple["Linear", np.ndarray]
"""A layer, and the fp32 weights [N, K] that its packed ones stand for."""


class Linear(Protocol):
    """A layer whose weights are packed and stored `copies` times."""

    copies: int
    weight_bytes: int
    """Bytes of one copy as packed, scales included."""

    def multiplied(self, x: np.ndarray) -> np.ndarray:
        """`x` as the row defines its activations: rounded, where rounding it is part of the row."""
        ...

    def ready(self, threads: int, x: np.ndarray) -> Step:
        """Prepare for calls with `x` [M, K] on that many threads."""
        ...

    def as_array(self, result: object) -> np.ndarray:
        """The result of a step as fp32 [M, N]."""
        ...

    def rest(self) -> None:
        """Called after the last of several steps in a row: threads that spin should stop."""
        ...


class Peer(Protocol):
    """A library. Importing its file, or making it, raises ImportError where it is not installed."""

    version: str

    def variants(self) -> Sequence[Variant]: ...

    def linear(self, variant: Variant, weight: np.ndarray, copies: Copies) -> Packed:
        """Pack fp32 `weight` [N, K]; raises any exception where it cannot."""
        ...


@dataclass(frozen=True, slots=True)
class Copies:
    """How many copies of weights of so many bytes keep each call's weights out of the caches."""

    cache: int
    most: int = 8

    def of(self, weight_bytes: int) -> int:
        """
        One to warm up on and `most` or fewer to time, each read once between two emptyings.

        >>> Copies(cache=32).of(1), Copies(cache=32).of(30), Copies(cache=32).of(200)
        (9, 4, 1)
        """
        if weight_bytes > 5 * self.cache:
            return 1
        timed = -(-2 * self.cache // max(1, weight_bytes))
        return 1 + min(max(timed, 2), self.most)


class Plain:
    """What most layers share: x as it is, results that are arrays, threads that park."""

    def multiplied(self, x: np.ndarray) -> np.ndarray:
        return x

    def as_array(self, result: object) -> np.ndarray:
        return np.asarray(result, np.float32)

    def rest(self) -> None:
        return None


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """
    Root mean square of the difference over that of `expected`; infinite for another shape.

    >>> relative_error(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    0.0
    """
    if actual.shape != expected.shape:
        return float("inf")
    difference = actual.astype(np.float64) - expected
    error = np.sqrt(np.mean(difference**2) / np.mean(expected.astype(np.float64) ** 2))
    return float(error) if np.isfinite(error) else float("inf")


def integers(weight: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Symmetric codes [N, K] (int8) and scales [N, K / group] of round-to-nearest integers.

    For peers that take codes and scales from their user.
    """
    rows, k = weight.shape
    blocks = weight.reshape(rows, k // group, group)
    largest = 2 ** (bits - 1) - 1
    scales = (np.abs(blocks).max(-1) / largest).astype(np.float32)
    codes = np.rint(blocks / np.where(scales == 0, 1, scales)[..., None])
    return np.clip(codes, -largest, largest).astype(np.int8).reshape(rows, k), scales


def decoded(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """codes [N, K] times scales [N, K / group] → fp32 [N, K]."""
    group = codes.shape[1] // scales.shape[1]
    return codes.astype(np.float32) * np.repeat(scales, group, axis=1)

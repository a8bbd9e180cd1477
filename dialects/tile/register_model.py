"""
Registers of a thread before a kernel is built: counts of what lives in them, weighed by what ptxas
took for such kernels.

A kernel counts the terms that its inner loop holds; COEFFICIENTS say how many registers each is,
fitted to the trials of kernels that ship with qcc. `python -m benchmarks.registers` prints how well
they do, on kernels that a fit has not seen too; with --fit, the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .hardware import Machine

SPILLED = 8
"""Bytes of a register that is kept in memory: stored, and loaded again."""
ALLOCATED = 8
"""ptxas gives registers by so many."""


@dataclass(frozen=True)
class Resources:
    """Of a thread: registers, and bytes that are stored and loaded for want of them."""

    registers: int
    spills: int = 0


@dataclass(frozen=True)
class Terms:
    """`counts` by name of what a thread holds, for a `kind` of kernel; `most` registers it may."""

    kind: str
    counts: Mapping[str, float]
    most: int


COEFFICIENTS: dict[str, dict[str, float]] = {
    "attention": {
        "all": 36.938,
        "packed": 5.702,
        "scores": 1.325,
        "shared_keys": 10.382,
        "sums": 1.773,
    },
    "attention, warp groups": {"all": 10.129, "packed": 14.47, "scores": 1.858, "sums": 1.67},
    "conv2d": {
        "depth": 4.484,
        "gathered": 29.479,
        "group_sums": 1.09,
        "outputs": 1.692,
        "pixels": 4.12,
        "steps": 0.88,
        "sums": 1.537,
    },
    "conv2d, warp groups": {"all": 6.72, "depth": 9.453, "outputs": 31.742, "pixels": 19.46},
    "linear": {
        "all": 31.242,
        "columns": 6.425,
        "decoded": 1.007,
        "group_sums": 1.389,
        "steps": 0.318,
        "sums": 0.44,
        "unrolled": 1.082,
    },
    "linear, streams": {"all": 41.229, "packets": 1.503, "steps": 0.07, "sums": 3.926},
    "linear, tensor memory": {"asked for": 1.0},
    "linear, warp groups": {"asked for": 1.0},
    "matmul": {"all": 38.175, "right": 0.221, "sums": 1.111},
}


def predicted(
    terms: Terms, coefficients: Mapping[str, Mapping[str, float]] = COEFFICIENTS
) -> Resources:
    """What ptxas will say, about."""
    weights = coefficients[terms.kind]
    counts = {"all": 1.0, **terms.counts}
    need = round(sum(weights.get(name, 0.0) * count for name, count in counts.items()))
    return Resources(min(need, terms.most), SPILLED * max(0, need - terms.most))


def most_registers(device: Machine, threads: int, blocks: int = 1) -> int:
    """Of a thread, where so many blocks share a multiprocessor."""
    share = device.registers_per_processor // (blocks * threads) // ALLOCATED * ALLOCATED
    return min(share, device.registers_per_thread)

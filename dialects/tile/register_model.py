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
        "all": 35.241,
        "packed": 7.852,
        "scores": 1.19,
        "shared_keys": 10.385,
        "sums": 1.862,
    },
    "attention, warp groups": {"all": 100, "scores": 1.0, "sums": 1.0},
    "conv2d": {
        "depth": 15.013,
        "gathered": 9.989,
        "group_sums": 0.438,
        "outputs": 14.25,
        "pixels": 17.916,
        "steps": 1.48,
    },
    "conv2d, warp groups": {"all": 96, "sums": 1.0},
    "linear": {
        "all": 37.047,
        "columns": 4.441,
        "decoded": 0.75,
        "group_sums": 1.555,
        "steps": 0.095,
        "sums": 0.633,
        "unrolled": 0.724,
    },
    "linear, streams": {
        "all": 44.162,
        "columns": 1.593,
        "group_sums": 2.507,
        "packets": 1.901,
        "steps": 0.04,
    },
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

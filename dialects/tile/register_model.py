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

REGISTER_BYTES = 4
ALLOCATED = 8
"""ptxas gives registers by so many."""


@dataclass(frozen=True)
class Resources:
    """Of a thread: registers, and bytes that spilled for want of them."""

    registers: int
    spills: int = 0


@dataclass(frozen=True)
class Terms:
    """`counts` by name of what a thread holds, for a `kind` of kernel; `most` registers it may."""

    kind: str
    counts: Mapping[str, float]
    most: int


COEFFICIENTS: dict[str, dict[str, float]] = {
    "attention": {"all": 78.027, "scores": 1.164, "sums": 0.728},
    "conv2d": {"gathered": 50.851, "group_sums": 1.054, "outputs": 4.778, "sums": 0.74},
    "linear": {
        "all": 30.774,
        "columns": 5.018,
        "decoded": 1.129,
        "group_sums": 1.546,
        "steps": 0.164,
        "sums": 0.624,
        "unrolled": 0.662,
    },
    "linear, streams": {
        "all": 38.195,
        "columns": 6.1,
        "decoded": 0.315,
        "group_sums": 2.516,
        "packets": 1.858,
        "steps": 0.049,
    },
    "linear, warp groups": {"asked for": 1.0},
    "linear, tensor memory": {"asked for": 1.0},
    "attention, warp groups": {"all": 100, "sums": 1.0, "scores": 1.0},
    "conv2d, warp groups": {"all": 96, "sums": 1.0},
    "matmul": {"all": 30, "sums": 1.0, "left": 2, "right": 1},
}


def predicted(
    terms: Terms, coefficients: Mapping[str, Mapping[str, float]] = COEFFICIENTS
) -> Resources:
    """What ptxas will say, about."""
    weights = coefficients[terms.kind]
    counts = {"all": 1.0, **terms.counts}
    need = round(sum(weights.get(name, 0.0) * count for name, count in counts.items()))
    return Resources(min(need, terms.most), REGISTER_BYTES * max(0, need - terms.most))


def most_registers(device: Machine, threads: int, blocks: int = 1) -> int:
    """Of a thread, where so many blocks share a multiprocessor."""
    share = device.registers_per_processor // (blocks * threads) // ALLOCATED * ALLOCATED
    return min(share, device.registers_per_thread)

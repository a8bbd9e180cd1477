"""
When blocks of a default schedule share the steps of all tiles, and the order of its tiles.

By numbers on paper alone, those of estimate.py, which no GPU has confirmed: so the plain grid
stays unless another one is clearly better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, log2
from typing import TYPE_CHECKING

from .hardware import BANDWIDTH, CACHE, HALVES, MULTIPROCESSORS, Machine
from .problem import LinearProblem

if TYPE_CHECKING:
    from .schedule import Schedule

L2_RATE = 4
"""Bytes of the L2 cache a second, in those of DRAM; as estimate.py has it."""
WORTH = 0.1
"""Of the time that a grid of whole tiles takes: what its last wave must waste beyond the cost."""
EXCHANGES = 4
"""Times that a block's tile of fp32 sums crosses the L2 cache: two are written, two are read."""
LEAST_TOKENS, LEAST_STAGES = 128, 3
LEAST_RASTER, MOST_RASTER = 4, 32


def shared_evenly(
    problem: LinearProblem, schedule: Schedule, device: Machine
) -> Iterator[Schedule]:
    """
    The schedule with stream-K, where that saves more of the last wave than its exchange costs.

    A wave is a tile for each multiprocessor, whose blocks divide its time. Fewer tiles than that
    share K in splits, and few tokens take the time of reading weights, however they are shared.
    """
    s = schedule
    if s.splits > 1 or s.record.in_tensor_memory or s.tokens < LEAST_TOKENS:
        return
    tiles = ceil(problem.n / s.channels) * ceil(problem.tokens / s.tokens)
    waves = tiles / MULTIPROCESSORS[device.name]
    rate = HALVES[device.name] * 16 / s.record.operand_bits
    exchange = EXCHANGES * 2 * rate / (L2_RATE * BANDWIDTH[device.name] * problem.k)
    if waves > 1 and waves + exchange < (1 - WORTH) * ceil(waves):
        for stages in range(s.stages, LEAST_STAGES - 1, -1):
            # More warps have fewer sums each, where the loop's own numbers would be too many.
            for warps_m in (s.warps_m,) if s.groups else (s.warps_m, 2 * s.warps_m):
                yield replace(s, persistent=1, stream_k=True, stages=stages, warps_m=warps_m)


def raster_of(problem: LinearProblem, schedule: Schedule, device: Machine) -> int:
    """
    Tiles of tokens that are made together: all (0), unless their activations fill half the cache.

    Then as many as make the activations and weights that a wave reads the fewest bytes.
    """
    s, bits = schedule, problem.format.bits
    activations = problem.tokens * problem.k * problem.operand.bits / 8
    if s.streams or activations <= CACHE[device.name] / 2:
        return 0
    weights = MULTIPROCESSORS[device.name] * s.channels * bits
    best = 2 ** round(log2(weights / (s.tokens * problem.operand.bits)) / 2)
    raster = min(max(best, LEAST_RASTER), MOST_RASTER)
    return raster if raster < ceil(problem.tokens / s.tokens) else 0

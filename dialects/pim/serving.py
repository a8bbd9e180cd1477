"""
Continuous batching over a cluster, or over GPUs: requests come, grow token by token, and leave.

Requests are drawn with a seed: contexts log-uniform between a sixteenth of the longest and the
longest, and each decodes a share of it. A request is admitted when the memory that it will hold at
its end fits beside what the others will hold at theirs. Steps are taken in strides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from ..errors import ResourceError

SHORTEST = 16
GENERATED = 64
"""A request decodes 1 / GENERATED of the longest context."""


@dataclass(frozen=True)
class Served:
    """
    What a system delivers: tokens a second, milliseconds between the tokens of a request, requests
    at once, and the share of memory for caches that was in use.
    """

    tokens_per_second: float
    token_ms: float
    batch: float
    cache_used: float


@dataclass(frozen=True)
class System:
    """`room` bytes for caches; what a request of some tokens holds; what a step takes."""

    room: int
    held: Callable[[int], int]
    needed: Callable[[int], int]
    step_ms: Callable[[list[int]], float]


def serve(system: System, longest: int, requests: int = 64, seed: int = 0) -> Served:
    """Serve `requests` one after another; ResourceError where one of the longest never fits."""
    grown = max(1, longest // GENERATED)
    if system.held(longest) > system.room:
        raise ResourceError(
            "pim-cluster-context",
            f"a context of {longest} tokens needs {system.held(longest)} bytes of a stage",
            why=f"there are {system.room}", next_step="use more nodes or fewer bits",
        )  # fmt: skip
    rng = Random(seed)
    waiting = [int(longest / SHORTEST * SHORTEST ** rng.random()) - grown for _ in range(requests)]
    stride = max(1, grown // 4)
    running: list[list[int]] = []
    tokens, milliseconds, steps, used, batches = 0, 0.0, 0, 0.0, 0
    while waiting or running:
        _admit(system, waiting, running, grown)
        contexts = [context for context, _ in running]
        milliseconds += stride * system.step_ms(contexts)
        used += sum(system.needed(context) for context in contexts) / system.room
        batches += len(contexts)
        steps += 1
        tokens += stride * len(contexts)
        running = [[c + stride, left - stride] for c, left in running if left > stride]
    return Served(
        1e3 * tokens / milliseconds, milliseconds / (steps * stride), batches / steps, used / steps
    )


def _admit(system: System, waiting: list[int], running: list[list[int]], grown: int) -> None:
    promised = sum(system.held(context + left) for context, left in running)
    while waiting and promised + system.held(waiting[0] + grown) <= system.room:
        promised += system.held(waiting[0] + grown)
        running.append([max(1, waiting.pop(0)), grown])

"""Where buffers of a call lie: apart while both are needed, and in little memory."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.codegen.cuda.arena import aligned, arena_layout
from qcc.codegen.cuda.plan import Buffer, Function


def function(lives: list[tuple[int, int, int]]) -> tuple[Function, list[int]]:
    """Buffers of (bytes, first, last)."""
    buffers = tuple(
        Buffer("arena", index, first=first, last=last)
        for index, (_, first, last) in enumerate(lives)
    )
    return Function((), buffers, (), ()), [size for size, _, _ in lives]


@pytest.mark.parametrize("seed", range(20))
def test_buffers_alive_together_do_not_meet(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lives = []
    for _ in range(40):
        first = int(rng.integers(0, 30))
        lives.append((int(rng.integers(0, 5000)), first, first + int(rng.integers(0, 8))))
    plan, sizes = function(lives)
    offsets, total = arena_layout(plan, sizes)
    assert all(offset % 256 == 0 for offset in offsets.values())
    for a, (size, first, last) in enumerate(lives):
        assert offsets[a] + size <= total
        for b, (other, begin, end) in list(enumerate(lives))[:a]:
            if first <= end and begin <= last and size and other:
                assert offsets[a] + size <= offsets[b] or offsets[b] + other <= offsets[a]
    busiest = max(
        sum(aligned(size) for size, first, last in lives if first <= step <= last)
        for step in range(40)
    )
    assert busiest <= total <= 1.5 * busiest


def test_memory_is_used_again() -> None:
    chain = [(1000, step, step + 1) for step in range(10)]
    plan, sizes = function(chain)
    assert arena_layout(plan, sizes)[1] == 2 * 1024

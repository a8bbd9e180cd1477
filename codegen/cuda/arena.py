"""Where the buffers of a call lie in one piece of memory, for the time that they are needed."""

from __future__ import annotations

from collections.abc import Sequence

from .plan import Function

ALIGNMENT = 256


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def arena_layout(function: Function, sizes: Sequence[int]) -> tuple[dict[int, int], int]:
    """
    The offset of each arena buffer, by its number, and the bytes of the arena.

    Large ones first, each at the lowest place that no buffer alive at the same time has.
    """
    buffers = [
        (aligned(sizes[buffer.bytes]), number, buffer)
        for number, buffer in enumerate(function.buffers)
        if buffer.place == "arena"
    ]
    placed: list[tuple[int, int, int, int]] = []
    offsets: dict[int, int] = {}
    for size, number, buffer in sorted(buffers, key=lambda each: (-each[0], each[1])):
        taken = sorted(
            (start, end)
            for start, end, first, last in placed
            if first <= buffer.last and buffer.first <= last
        )
        offset = _first_gap(taken, size)
        offsets[number] = offset
        placed.append((offset, offset + size, buffer.first, buffer.last))
    return offsets, max((end for _, end, _, _ in placed), default=0)


def _first_gap(taken: list[tuple[int, int]], size: int) -> int:
    """
    The lowest place for `size` bytes beside intervals in rising order.

    >>> _first_gap([(0, 256), (512, 768)], 256)
    256
    """
    offset = 0
    for start, end in taken:
        if start - offset >= size:
            break
        offset = max(offset, end)
    return offset

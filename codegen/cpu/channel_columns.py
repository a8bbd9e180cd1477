"""Sums of sixteen output channels a vector, stored as rows of columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...dialects.formats.panels import PANEL_ROWS
from .emit import LANES, Ptr, Val, branch, shuffle

Finished = Callable[[Val, Val], Val]
"""(floats from the first channel's place, neighbouring columns) → what is stored there."""


def store_columns(
    target: Ptr,
    pitch: Val,
    channels: Val | None,
    mask: Val,
    columns: Sequence[Val],
    finished: Finished,
) -> None:
    """
    Store up to eight neighbouring `columns` of sixteen channels each.

    `target` is the place of the first channel's first column, `pitch` floats lie from channel to
    channel, of which there are `channels` (None for at least sixteen). `mask` says which of eight
    columns exist.
    """
    whole = [*columns, *[columns[-1]] * (LANES - len(columns))]
    for index, pair in enumerate(_turned(whole)):
        for half in range(2):
            channel = index + half * LANES
            lanes = shuffle(pair, pair, range(half * LANES, (half + 1) * LANES))
            _store_channel(channel, target, pitch * channel, channels, mask, lanes, finished)


def _store_channel(
    channel: int,
    target: Ptr,
    offset: Val,
    channels: Val | None,
    mask: Val,
    value: Val,
    finished: Finished,
) -> None:
    def store() -> None:
        target.at(offset).store_while(mask, finished(offset, value))

    if channels is None:
        store()
    else:
        branch(channels.compare("gt", channel), store)


def _turned(rows: list[Val]) -> list[Val]:
    """
    Eight rows of sixteen lanes as columns: result i has column i, and column i + 8 behind it.

    Each of the three rounds exchanges one bit of the row's number with one of the lane's.
    """
    for bit in (1, 2, 4):
        turned = list(rows)
        for row in range(LANES):
            if not row & bit:
                low, high = rows[row], rows[row | bit]
                turned[row] = shuffle(low, high, [_pick(lane, bit, 0) for lane in range(16)])
                turned[row | bit] = shuffle(low, high, [_pick(lane, bit, 1) for lane in range(16)])
        rows = turned
    return rows


def _pick(lane: int, bit: int, wanted: int) -> int:
    """The lane that comes to `lane`: its bit says whose row, `wanted` replaces the bit."""
    source = lane & ~bit | (bit if wanted else 0)
    return source + (PANEL_ROWS if lane & bit else 0)

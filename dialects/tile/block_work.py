"""
Which tiles of a result, and which steps of K, each block of a grid makes.

    a block for each tile     block (x, y, z): tile y * columns + x, share z of K
    persistent                block b of B: tiles b, b + B, b + 2 B …, all of K
    stream-K                  block b of B: its share of the tiles * steps units, as even as can be;
                              unit u is step u mod steps of tile u / steps

Of stream-K a block has at most two tiles that it shares with others, the first and the last of its
own: they have `SHARED_TILES` places for sums in the workspace. The block that is the last to arrive
at a tile adds the sums of all in their order, so results repeat, and no block waits for another.

Tiles are counted by tokens first, then by channels; with `raster` so within `raster` tiles of
tokens, and then within the next ones. codegen/cuda/device/block_work.cuh does the same for blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from .dialect import BANK_ROW
from .layout import bank_conflicts

if TYPE_CHECKING:
    from .hardware import Machine
    from .schedule import Schedule

SHARED_TILES = 2
MOST_RESULTS = (1 << 31) - 1
"""Elements of a result; blocks count units in as many bits."""
LEAST_STEPS = 4
"""Steps of K for which another block is worth its start."""
VECTOR = 16
"""Bytes that a lane names to ldmatrix, and that tensor copies exchange."""
SWIZZLES = (1, 2, 4, 8)
MATRIX_ROWS = 8


@dataclass(frozen=True)
class Units:
    """The shares of `units` of `blocks` blocks, of which there are no more than units."""

    units: int
    blocks: int

    def first(self, block: int) -> int:
        """
        The first unit of a block; that of block `blocks` is the end.

        >>> [Units(10, 4).first(block) for block in range(5)]
        [0, 3, 6, 8, 10]
        """
        each, longer = divmod(self.units, self.blocks)
        return block * each + min(block, longer)

    def block_of(self, unit: int) -> int:
        """
        >>> [Units(10, 4).block_of(unit) for unit in range(10)]
        [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
        """
        each, longer = divmod(self.units, self.blocks)
        of_longer = longer * (each + 1)
        if unit < of_longer:
            return unit // (each + 1)
        return longer + (unit - of_longer) // each


def most_units(n: int, steps: int, schedule: Schedule) -> int:
    """As many units as there are for results of `n` channels with the most elements."""
    tiles_of_tokens = MOST_RESULTS // (n * schedule.tokens) + 1
    return steps * -(-n // schedule.channels) * tiles_of_tokens


def tile_place(tile: int, columns: int, strips: int, raster: int) -> tuple[int, int]:
    """
    The tile of tokens and that of channels which `tile` is, of `columns` by `strips`.

    >>> [tile_place(tile, 3, 2, 2) for tile in range(6)]
    [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1)]
    """
    together = raster or columns
    group, within = divmod(tile, together * strips)
    first = group * together
    width = min(together, columns - first)
    return first + within % width, within // width


def matrix_turns(schedule: Schedule) -> int:
    """
    How often shared memory is asked for one matrix of ldmatrix, 1 at best.

    Its rows are a multiple of the banks apart, and begin where the swizzle puts their vector.
    """
    return _turns(min(schedule.tokens, MATRIX_ROWS), schedule.swizzle)


@cache
def _turns(different: int, swizzle: int) -> int:
    rows = np.arange(MATRIX_ROWS) % different
    return bank_conflicts(BANK_ROW * rows + VECTOR * (rows % swizzle), VECTOR)


def unfit_orders(schedule: Schedule) -> Iterator[str]:
    """What is wrong with the swizzle of shared memory and the order of tiles."""
    s = schedule
    if s.swizzle not in SWIZZLES:
        yield f"a swizzle exchanges {', '.join(map(str, SWIZZLES))} vectors, not {s.swizzle}"
    elif s.groups and s.swizzle * VECTOR != BANK_ROW:
        yield f"tensor copies exchange vectors within {BANK_ROW} bytes, not {s.swizzle} vectors"
    elif not s.groups and (turns := matrix_turns(s)) > 1:
        yield f"with a swizzle of {s.swizzle} vectors {turns} rows of ldmatrix meet in a bank"
    if s.raster < 0:
        yield f"a raster of {s.raster} tiles of tokens"


def unfit_loops(schedule: Schedule, shared: int, device: Machine) -> Iterator[str]:
    """What keeps blocks of so many bytes of shared memory from looping over tiles."""
    s = schedule
    if s.persistent < 0:
        yield f"{s.persistent} blocks of a multiprocessor"
    if s.stream_k and not s.persistent:
        yield "blocks that share steps of several tiles (stream_k) are persistent"
    if s.persistent <= 0:
        return
    if s.streams:
        yield "a schedule that streams holds its share of K at once, of one tile"
    if s.record.in_tensor_memory:
        yield "sums in tensor memory are those of one tile"
    if s.splits > 1:
        yield f"persistent blocks share K by stream_k, not in {s.splits} splits"
    if s.groups and s.persistent > 1:
        yield "warp groups divide the registers of a multiprocessor within one block"
    for what, need, most in (
        ("threads", s.threads, device.threads_per_processor),
        ("bytes of shared memory", shared + device.shared_reserved, device.shared_per_processor),
    ):
        if s.persistent * need > most:
            yield f"{s.persistent} x {need} {what} are more than the {most} of a multiprocessor"

"""
Cycles of a kernel from its schedule alone, for search: spec pim.md §1.5 with the loads that the
kernels really have. The chosen few are then simulated (timing.py); the tests hold both together.

A phase is what tasklets do between barriers, or the whole kernel. It takes

    factor · max(Σ slots, interval · slots of the busiest tasklet)   and   Σ engine cycles of DMA

whichever is more, plus what it waits for its first request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from .device import Device
from .footprint import WIDTH, low_split, padded, reorders, table_parts
from .schedule import Share
from .slots import BARRIER_SLOTS, DMA_SLOTS, PLACES_IN_REGISTERS, far_slots

LOOP = 3
"""Slots of starting a loop, and of one more round of it."""


@dataclass(frozen=True)
class Phase:
    """Slots and engine cycles of one unit of work, and how the units fall to tasklets."""

    slots: float
    engine: float
    units: int
    tasklets: int

    def cycles(self, device: Device) -> float:
        rounds = ceil(self.units / self.tasklets)
        busy = min(self.units, self.tasklets)
        whole = self.slots * self.units
        longest = device.interval * self.slots * rounds
        wait = device.dma.read_latency + self.engine / max(1, rounds)
        computed = device.factor * max(whole, longest)
        alone = rounds * wait if busy < device.interval else wait
        return max(computed + alone, self.engine * self.units + device.dma.read_latency)


def estimated_cycles(share: Share, device: Device) -> float:
    """Cycles of one run of a share's kernel."""
    start = _start(share, device)
    return start + share.rounds * _CYCLES[share.schedule.method](share, device)


def _start(share: Share, device: Device) -> float:
    """Tables to WRAM, once."""
    if share.schedule.tables_at != "resident":
        return 0.0
    whole = share.tables.bytes(share.schedule.method)
    return device.dma.busy(whole + (share.tables.bytes("reorder") if reorders(share) else 0))


def _fly(share: Share, device: Device) -> float:
    s = share.schedule
    make, add = _making(share, device), _adding(share, device)
    per_tile = _clearing(share) + DMA_SLOTS + 6
    if share.spans > 1:
        per_tile += share.spans * share.rows_each * s.sums * (10 + _clear_slots())
    engine = device.dma.busy(share.rows_each * s.tile * 2)
    if not s.shared:
        slots = per_tile + share.chunks * (
            s.groups * make.slots + (share.rows_each // s.row_block) * add.slots + 2 * LOOP
        )
        moved = share.chunks * (
            s.groups * make.engine + share.rows_each // s.row_block * add.engine
        )
        return Phase(slots, engine + moved, share.tiles, s.tasklets).cycles(device)
    barriers = 2 * (BARRIER_SLOTS + LOOP) * s.tasklets * device.factor
    chunk = make.cycles(device) + add.cycles(device) + barriers
    ends = Phase(per_tile, engine, s.tasklets, s.tasklets).cycles(device)
    return share.tiles * (share.chunks * chunk + ends)


def _clear_slots() -> float:
    return 1.25


def _clearing(share: Share) -> float:
    count = share.rows_each * share.schedule.sums * share.spans
    return _clear_slots() * (count + (share.rows_each * share.schedule.tile) * (share.spans > 1))


def _making(share: Share, device: Device) -> Phase:
    """One table, or the part of one that a tasklet makes."""
    s, t = share.schedule, share.tables
    low, uppers = low_split(share)
    parts = table_parts(share)
    block, codes = t.rows // uppers, len(share.problem.weights)
    inputs = s.p * (2 * s.lanes - 1) + s.p + codes
    double = 0.0
    if uppers > 1:
        double = uppers * (1 + 2 * (codes - 1)) / (codes - 1) + (s.p - low) * (codes + LOOP)
    expand = uppers / parts * (2 * block + 1 + LOOP)
    word = inputs + double + expand + 3 + LOOP
    slots = DMA_SLOTS + 6 + LOOP + s.words * word
    engine = device.dma.busy(padded(s.p * s.tile, 1))
    return Phase(slots, engine, s.groups * parts, s.tasklets if s.shared else 1)


def _adding(share: Share, device: Device) -> Phase:
    """One block of rows, over all groups of a chunk."""
    s = share.schedule
    lookups = s.groups * (1 + 1 + 2 * s.words)
    emptied = 5 * s.words * -(-s.groups // share.burst) if s.lanes == 4 else 0
    table = share.tables.rows * s.words * WIDTH[share.entry]
    far = far_slots(group * table for group in range(s.groups))
    row = 2 * s.sums + lookups + far + emptied + LOOP
    slots = DMA_SLOTS + 5 + LOOP + s.row_block * row
    size = s.row_block * s.groups * WIDTH[share.tables.code]
    return Phase(slots, device.dma.busy(size), share.rows // s.row_block, s.tasklets)


def _tables(share: Share, device: Device) -> float:
    s, t = share.schedule, share.tables
    ordered = reorders(share)
    places = s.groups * (1 + ordered) if s.residency == "resident" else 0
    reloads = max(0, places - PLACES_IN_REGISTERS)
    row = (
        2
        + reloads
        + s.groups * (1 + 3 + 2 * ordered)
        + LOOP / max(1, min(s.row_block, 16 // s.groups))
    )
    blocks = share.rows_each // s.row_block
    size = s.groups * s.row_block * WIDTH[t.code]
    add_slots = blocks * (DMA_SLOTS + 6 + LOOP + s.row_block * row)
    add_engine = blocks * device.dma.busy(size)
    places = DMA_SLOTS + 5 + LOOP
    slices, sizes = 0.0, [t.rows * WIDTH[t.entry]] + [t.rows * WIDTH[t.code]] * ordered
    load_engine = device.dma.busy(8 * s.groups)
    if s.residency == "stream":
        slices = s.groups * sum((DMA_SLOTS + 2) * ceil(size / 2048) for size in sizes)
        own = s.groups * sum(device.dma.busy(size) for size in sizes)
        load_engine += own / s.tasklets if s.shared else own
    else:
        slices = 2.0 * s.groups * len(sizes)
    ends = _clear_slots() * share.rows_each + DMA_SLOTS + LOOP
    end_engine = device.dma.busy(share.rows_each * WIDTH[share.accumulator])
    if not s.shared:
        slots = ends + share.chunks * (places + slices + add_slots)
        moved = end_engine + share.chunks * (load_engine + add_engine)
        return Phase(slots, moved, share.tokens, s.tasklets).cycles(device)
    load = Phase(places + slices / s.tasklets + LOOP, load_engine, s.tasklets, s.tasklets)
    add = Phase(add_slots, add_engine, s.tasklets, s.tasklets)
    barriers = 2 * (BARRIER_SLOTS + LOOP) * s.tasklets * device.factor
    chunk = load.cycles(device) + add.cycles(device) + barriers
    tail = Phase(ends, end_engine, s.tasklets, s.tasklets).cycles(device)
    return share.tokens * (share.chunks * chunk + tail)


def _multiply(share: Share, device: Device) -> float:
    s = share.schedule
    cells = s.row_block * s.words
    word = 8 * cells + 2 * (s.row_block + s.words)
    unroll = max(1, 8 // cells)
    block = s.groups * (word + 3 / unroll) + 2 * cells + DMA_SLOTS + 5 + 2 * LOOP
    blocks = share.rows // s.row_block
    size = s.groups * 4
    chunk = blocks * block + s.words * (DMA_SLOTS + 5)
    engine = blocks * device.dma.busy(s.row_block * size) + s.words * device.dma.busy(size)
    width = padded(share.rows, 4) * s.words
    slots = _clear_slots() * width + DMA_SLOTS + share.chunks * chunk
    moved = share.chunks * engine + device.dma.busy(width * 4)
    return Phase(slots, moved, share.tiles, s.tasklets).cycles(device)


_CYCLES: dict[str, Callable[[Share, Device], float]] = {
    "multiply": _multiply, "packed": _tables, "canonical": _tables, "fly": _fly, "lanes": _fly,
}  # fmt: skip

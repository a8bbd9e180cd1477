"""Which schedules of a product can be built for a device, and why others cannot."""

from __future__ import annotations

from collections.abc import Iterator

from .device import Device
from .footprint import WIDTH, arrays, mram_need, padded, reorders, wram_need
from .schedule import BYTE_MOST, LANE_MOST, METHODS, Share

MOST_TABLE_CODE = 12
"""Bits of a code whose table a kernel makes on the fly: 4,096 entries."""


def illegal(share: Share, device: Device) -> Iterator[str]:
    """The reasons why this schedule cannot be built, none if it can."""
    s = share.schedule
    if s.method not in METHODS:
        yield f"{s.method!r} is none of {', '.join(METHODS)}"
        return
    if s.tasklets > device.most_tasklets:
        yield f"{s.tasklets} tasklets, {device.name} has {device.most_tasklets}"
    if s.dpus > device.dpus:
        yield f"{s.dpus} DPUs, the machine has {device.dpus}"
    if (s.k_parts - 1) * share.rounds * share.k_each >= share.problem.k:
        yield f"K of {share.problem.k} has no {s.k_parts} parts"
        return
    yield from _misaligned(share)
    for field, need, most in budgets(share, device):
        if need > most:
            what = f"{need} bytes of {field.upper()} for p = {s.p}, groups = {s.groups}"
            yield f"{what} exceed the {most} there are"


def budgets(share: Share, device: Device) -> list[tuple[str, int, int]]:
    """Fields of a device, the bytes of them that a DPU needs, and those it has."""
    tasklets = share.schedule.tasklets
    held = tasklets * device.stack + device.runtime
    return [
        ("wram", padded(wram_need(share) + held, 1), device.wram),
        ("mram", mram_need(share), device.mram),
    ]


def _misaligned(share: Share) -> Iterator[str]:
    """Pieces of DMA that are no multiples of 8 bytes, or lanes that hold no chunk."""
    s, t = share.schedule, share.tables
    if s.method == "multiply":
        if s.groups * WIDTH["ui32"] % 8:
            yield f"{s.groups} words of a token are no multiple of 8 bytes"
        return
    if s.row_block * s.groups * WIDTH[t.code] % 8:
        yield f"{s.row_block} x {s.groups} codes are no multiple of 8 bytes"
    if s.method in ("fly", "lanes"):
        if t.weight_bits * s.p > MOST_TABLE_CODE:
            yield f"a table of {t.rows} entries takes longer to make than it saves"
        if s.method == "lanes" and share.chunk * share.problem.largest_product > LANE_MOST:
            yield f"sums of {share.chunk} products leave lanes of 16 bits"
        if s.lanes == 4 and share.largest_entry > BYTE_MOST:
            yield f"entries of up to {share.largest_entry} leave lanes of 8 bits"
    elif t.rows * WIDTH[t.entry] % 8 or (reorders(share) and t.rows * WIDTH[t.code] % 8):
        yield f"slices of {t.rows} entries are no multiple of 8 bytes"
    shape, element = list(arrays(share).values())[-1]
    if share.rows_each * (shape[-1] if len(shape) == 3 else 1) * WIDTH[element] % 8:
        yield f"{share.rows_each} rows of {element} are no multiple of 8 bytes"

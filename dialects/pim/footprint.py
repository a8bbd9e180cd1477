"""
What a share of a product holds: buffers in WRAM, arrays in MRAM, and their bytes.

Kernels, transfers, the host's layout of codes and the cost model all read them here.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from .schedule import Share


def table_parts(share: Share) -> int:
    """Tasklets that share the making of one table: a power of two that divides it."""
    s = share.schedule
    if not s.shared or s.groups >= s.tasklets:
        return 1
    parts = 1
    while parts * 2 * s.groups <= s.tasklets and parts * 2 <= low_split(share)[1]:
        parts *= 2
    return parts


def low_split(share: Share) -> tuple[int, int]:
    """
    Codes of a group whose sums are written in one go, and the combinations of all others.

    Four bits of code: fifteen steps from the sum of the others, each one addition and one store.
    """
    bits, p = share.tables.weight_bits, share.schedule.p
    low = max(1, min(p, 4 // bits))
    return low, 1 << (bits * (p - low))


def buffers(share: Share) -> dict[str, tuple[tuple[int, ...], str, str]]:
    """Shape, element and scope of each WRAM buffer of a kernel, by name."""
    return _BUFFERS[share.schedule.method](share)


def _fly_buffers(share: Share) -> dict[str, tuple[tuple[int, ...], str, str]]:
    s, scope = share.schedule, "shared" if share.schedule.shared else "private"
    made = {
        "table": ((s.groups, share.tables.rows, s.words), share.entry, scope),
        "upper": ((low_split(share)[1],), "si32", "private"),
        "inputs": ((padded(s.p * s.tile, 1),), "si8", "private"),
        "codes": ((s.row_block, s.groups), share.tables.code, "private"),
        "sums": ((share.rows_each, s.sums), sums_element(share), "private"),
    }
    if share.spans > 1:
        made["totals"] = ((share.rows_each, s.tile), "si32", "private")
    return made


def sums_element(share: Share) -> str:
    """Of the accumulators of tables made on the fly."""
    return "ui32" if share.schedule.lanes > 1 else share.accumulator


def _table_buffers(share: Share) -> dict[str, tuple[tuple[int, ...], str, str]]:
    s, t = share.schedule, share.tables
    scope = "shared" if s.shared else "private"
    columns, orders = s.groups, s.groups
    if s.residency == "resident":
        scope, columns = "shared", t.columns if s.method == "canonical" else t.shape("packed")[0]
        orders = t.permutations
    made: dict[str, tuple[tuple[int, ...], str, str]] = {
        "slices": ((columns, t.rows), t.entry, scope)
    }
    if reorders(share):
        made["orders"] = ((orders, t.rows), t.code, scope)
    return made | {
        "places": ((s.groups, 2), "ui32", "private"),
        "codes": ((s.groups, s.row_block), t.code, "private"),
        "sums": ((share.rows_each,), share.accumulator, "private"),
    }


def _multiply_buffers(share: Share) -> dict[str, tuple[tuple[int, ...], str, str]]:
    s = share.schedule
    return {
        "inputs": ((s.words, s.groups), "ui32", "private"),
        "codes": ((s.row_block, s.groups), "ui32", "private"),
        "sums": ((s.words, padded(share.rows, 4)), "si32", "private"),
    }


_BUFFERS = {
    "multiply": _multiply_buffers, "packed": _table_buffers, "canonical": _table_buffers,
    "fly": _fly_buffers, "lanes": _fly_buffers,
}  # fmt: skip
WIDTH = {"si8": 1, "ui8": 1, "si16": 2, "ui16": 2, "si32": 4, "ui32": 4}


def reorders(share: Share) -> bool:
    return share.schedule.method == "canonical" and share.tables.needs_reorder


def padded(count: int, width: int) -> int:
    """A count of elements of `width` bytes whose bytes are whole units of DMA."""
    unit = 8 // width
    return -(-count // unit) * unit


def wram_need(share: Share) -> int:
    """Bytes of the buffers of a kernel."""
    tasklets = share.schedule.tasklets
    return sum(
        padded(prod(shape), WIDTH[element]) * WIDTH[element]
        * (tasklets if scope == "private" else 1)
        for shape, element, scope in buffers(share).values()
    )  # fmt: skip


def arrays(share: Share) -> dict[str, tuple[tuple[int, ...], str]]:
    """
    Shape and element of each array in MRAM of one DPU, by name; the last is the result.

    The rounds of a share lie one after another.
    """
    s, t, rounds = share.schedule, share.tables, share.rounds
    if s.method == "multiply":
        return {
            "weights": ((rounds * share.chunks, share.rows, s.groups), "ui32"),
            "inputs": ((rounds * share.tokens, share.groups), "ui32"),
            "results": ((rounds * share.tokens, padded(share.rows, 4)), "si32"),
        }
    if s.method in ("fly", "lanes"):
        width = s.sums if share.spans == 1 else s.tile
        return {
            "weights": ((rounds * share.chunks, share.rows, s.groups), t.code),
            "inputs": ((rounds * share.tiles, share.groups, padded(s.p * s.tile, 1)), "si8"),
            "results": ((rounds * share.tiles, share.rows, width), share.accumulator),
        }
    columns, rows, element = t.shape(s.method)
    made: dict[str, tuple[tuple[int, ...], str]] = {"table": ((columns, rows), element)}
    if reorders(share):
        made["reorder"] = ((t.permutations, t.rows), t.code)
    blocks = rounds * share.chunks, share.rows // s.row_block
    return made | {
        "weights": ((*blocks, s.groups, s.row_block), t.code),
        "places": ((rounds * share.tokens, share.groups, 2), "ui32"),
        "results": ((rounds * share.tokens, share.rows), share.accumulator),
    }


def sizes_of(arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, int]:
    """Bytes of arrays by name, whole units of DMA."""
    return {
        name: padded(prod(shape), WIDTH[element]) * WIDTH[element]
        for name, (shape, element) in arrays.items()
    }


def mram_need(share: Share) -> int:
    return sum(sizes_of(arrays(share)).values())

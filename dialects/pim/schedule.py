"""
Integer matrix products for DPUs: the problem, the ways to compute it, and what is legal.

    y[n, m] = Σ_k W(w[m, k]) · A(a[n, k])        W, A: the integers that codes stand for

A DPU gets some rows of weights (output features), some tokens, and all of K or, where tokens are
few, a part of it; the host then adds the parts. It computes products of p codes by lookup, or one
by one:

    multiply    one-slot multiplications of bytes, in register tiles
    packed      a table of all (weights, activations) of p codes
    canonical   LoCaLUT's tables: sorted activations, and a second table that reorders weights
    fly         a table of the 2^(bw·p) sums of one group of activations, made where it is used
    lanes       as fly, for two or four tokens in each 32-bit word and `words` words in each entry:
                one load of a code and one address serve all their tokens

Tables of packed and canonical are `resident` in WRAM, or their slices `stream` from MRAM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

from .device import Device
from .lookup_tables import TablePair

METHODS = ("multiply", "packed", "canonical", "fly", "lanes")
LANE_MOST = (1 << 15) - 1
BYTE_MOST = (1 << 7) - 1
MOST_TABLE_CODE = 12
"""Bits of a code whose table a kernel makes on the fly: 4,096 entries."""


@dataclass(frozen=True)
class Problem:
    """`rows` output features, `k` inputs, `tokens`; code books as integers by code."""

    rows: int
    k: int
    tokens: int
    weights: tuple[int, ...]
    activations: tuple[int, ...]

    @property
    def macs(self) -> int:
        return self.rows * self.k * self.tokens

    @cached_property
    def largest_product(self) -> int:
        return max(abs(w * a) for w in self.weights for a in self.activations)

    def pair(self, p: int) -> TablePair:
        """Made once for each p: its sizes are asked for by every schedule of a search."""
        if p not in self._pairs:
            self._pairs[p] = TablePair(self.weights, self.activations, p)
        return self._pairs[p]

    @cached_property
    def _pairs(self) -> dict[int, TablePair]:
        return {}


@dataclass(frozen=True)
class Schedule:
    """
    One way to compute a problem.

    `p` codes are a group. `groups` are worked on together (k of the paper): their slices or tables
    are in WRAM at once, and accumulators stay in registers. `shared`: slices or tables belong to
    all tasklets, which share the rows; else each tasklet has its own, and its own tokens. `words`:
    see lanes; for multiply the tokens of a register tile. `lane_bits` are 16, or 8 for entries so
    small that a few of them add up in a byte. `row_block`: rows of one DMA of weights,
    for multiply those of a register tile. The DPUs form a grid of `k_parts` x `row_parts` x
    `token_parts`.
    """

    method: str
    p: int = 1
    groups: int = 1
    residency: str = "stream"
    shared: bool = False
    words: int = 1
    row_block: int = 1
    tasklets: int = 16
    row_parts: int = 1
    token_parts: int = 1
    k_parts: int = 1
    lane_bits: int = 16

    @property
    def lanes(self) -> int:
        """Tokens in a word of a table."""
        return 32 // self.lane_bits if self.method == "lanes" else 1

    @property
    def sums(self) -> int:
        """Accumulators of one row: words of two tokens, or of one."""
        return self.tile // 2 if self.method == "lanes" else self.words

    @property
    def tile(self) -> int:
        """Tokens computed together."""
        return self.words * self.lanes

    @property
    def dpus(self) -> int:
        return self.k_parts * self.row_parts * self.token_parts

    @property
    def tables_at(self) -> str:
        """Where tables are: "resident" or "stream" for stored ones, made on the fly, or none."""
        if self.method == "multiply":
            return "none"
        return "made" if self.method in ("fly", "lanes") else self.residency


@dataclass(frozen=True)
class Share:
    """
    What one DPU computes, padded: `rows` and `tokens` as its loops want them, `groups` of p codes
    in `chunks` of the schedule's `groups`, and `spans` after which lanes of 16 bits are emptied.
    """

    problem: Problem
    schedule: Schedule

    @cached_property
    def tables(self) -> TablePair:
        return self.problem.pair(self.schedule.p)

    @cached_property
    def tokens(self) -> int:
        """Tokens of this DPU, whole tiles."""
        s = self.schedule
        each = -(-self.problem.tokens // s.token_parts)
        return -(-each // s.tile) * s.tile

    @property
    def tiles(self) -> int:
        return self.tokens // self.schedule.tile

    @cached_property
    def rows(self) -> int:
        """Rows of this DPU: whole blocks, of each tasklet where they share the rows."""
        s = self.schedule
        each = -(-self.problem.rows // s.row_parts)
        unit = s.row_block * (s.tasklets if s.shared else 1)
        return -(-each // unit) * unit

    @property
    def rows_each(self) -> int:
        """Rows that one tasklet computes."""
        return self.rows // (self.schedule.tasklets if self.schedule.shared else 1)

    @cached_property
    def spans(self) -> int:
        """Parts of K whose sums fit a lane; 1 where accumulators have 32 bits."""
        if self.schedule.method != "lanes":
            return 1
        fit = LANE_MOST // max(1, self.problem.largest_product) // self.chunk
        return -(-self.whole_chunks // max(1, fit))

    @property
    def chunk(self) -> int:
        """Elements of K that are worked on together."""
        codes = 4 if self.schedule.method == "multiply" else self.schedule.p
        return self.schedule.groups * codes

    @property
    def whole_chunks(self) -> int:
        return -(-self.k_each // self.chunk)

    @property
    def k_each(self) -> int:
        """Inputs of a DPU; the last part of K may have fewer."""
        return -(-self.problem.k // self.schedule.k_parts)

    @cached_property
    def chunks(self) -> int:
        return -(-self.whole_chunks // self.spans) * self.spans

    @property
    def groups(self) -> int:
        return self.chunks * self.schedule.groups

    @property
    def k(self) -> int:
        """K with the padding of whole chunks."""
        return self.chunks * self.chunk

    @property
    def burst(self) -> int:
        """Groups whose entries add up in lanes of 8 bits; all of a chunk in wider ones."""
        if self.schedule.lanes != 4:
            return self.schedule.groups
        return min(self.schedule.groups, BYTE_MOST // self.largest_entry)

    @property
    def largest_entry(self) -> int:
        return max(1, self.schedule.p * self.problem.largest_product)

    @property
    def bursts(self) -> int:
        """Times that lanes of 8 bits are emptied in a span; each adds 128 to a sum."""
        if self.schedule.lanes != 4:
            return 0
        return self.chunks // self.spans * -(-self.schedule.groups // self.burst)

    @property
    def accumulator(self) -> str:
        """The element of results: the smallest that no sum can leave."""
        s, most = self.schedule, self.k * self.problem.largest_product
        if s.method == "lanes" and self.spans == 1:
            return "ui32"
        return (
            "si16" if most <= LANE_MOST and s.method in ("packed", "canonical", "fly") else "si32"
        )

    @property
    def entry(self) -> str:
        """The element of tables made on the fly."""
        return "ui32" if self.schedule.lanes > 1 else self.tables.entry


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
    """Shape and element of each array in MRAM of one DPU, by name; the last is the result."""
    s, t = share.schedule, share.tables
    if s.method == "multiply":
        return {
            "weights": ((share.chunks, share.rows, s.groups), "ui32"),
            "inputs": ((share.tokens, share.groups), "ui32"),
            "results": ((share.tokens, padded(share.rows, 4)), "si32"),
        }
    if s.method in ("fly", "lanes"):
        width = s.sums if share.spans == 1 else s.tile
        return {
            "weights": ((share.chunks, share.rows, s.groups), t.code),
            "inputs": ((share.tiles, share.groups, padded(s.p * s.tile, 1)), "si8"),
            "results": ((share.tiles, share.rows, width), share.accumulator),
        }
    columns, rows, element = t.shape(s.method)
    made: dict[str, tuple[tuple[int, ...], str]] = {"table": ((columns, rows), element)}
    if reorders(share):
        made["reorder"] = ((t.permutations, t.rows), t.code)
    return made | {
        "weights": ((share.chunks, share.rows // s.row_block, s.groups, s.row_block), t.code),
        "places": ((share.tokens, share.groups, 2), "ui32"),
        "results": ((share.tokens, share.rows), share.accumulator),
    }


def mram_need(share: Share) -> int:
    return sum(
        padded(prod(shape), WIDTH[element]) * WIDTH[element]
        for shape, element in arrays(share).values()
    )


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
    if (s.k_parts - 1) * share.k_each >= share.problem.k:
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

"""
Integer matrix products for DPUs: the problem, the ways to compute it, and what a DPU's share is.

    y[n, m] = Σ_k W(w[m, k]) · A(a[n, k])        W, A: the integers that codes stand for

A DPU gets some rows of weights (output features), some tokens, and all of K or, where tokens are
few, a part of it; the host then adds the parts. Where each `group` of inputs has a scale, the sums
of such parts of K stay apart: y[g, n, m]. It computes products of p codes by lookup, or one by one:

    multiply    one-slot multiplications of bytes, in register tiles
    packed      a table of all (weights, activations) of p codes
    canonical   LoCaLUT's tables: sorted activations, and a second table that reorders weights
    fly         a table of the 2^(bw·p) sums of one group of activations, made where it is used
    lanes       as fly, for two or four tokens in each 32-bit word and `words` words in each entry:
                one load of a code and one address serve all their tokens

Tables of packed and canonical are `resident` in WRAM, or their slices `stream` from MRAM.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .lookup_tables import TablePair

METHODS = ("multiply", "packed", "canonical", "fly", "lanes")
LANE_MOST = (1 << 15) - 1
BYTE_MOST = (1 << 7) - 1


@dataclass(frozen=True)
class Problem:
    """
    `rows` output features, `k` inputs, `tokens`; code books as integers by code.

    `group` inputs have a scale of their own, so that their sums stay apart; 0: all have one.
    """

    rows: int
    k: int
    tokens: int
    weights: tuple[int, ...]
    activations: tuple[int, ...]
    group: int = 0

    @property
    def parts(self) -> int:
        """Sums of each result."""
        return -(-self.k // self.group) if self.group else 1

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
    All of that is of one of `rounds` parts of K whose sums stay apart.
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
    def rounds(self) -> int:
        """Parts of K whose sums stay apart, of this DPU; the last DPU may have fewer."""
        return -(-self.problem.parts // self.schedule.k_parts) if self.problem.group else 1

    @property
    def k_each(self) -> int:
        """Inputs of a round; the last part of K may have fewer."""
        return self.problem.group or -(-self.problem.k // self.schedule.k_parts)

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

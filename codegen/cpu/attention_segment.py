"""
What all attention kernels share: their facts and arguments, and the arithmetic of a segment.

A segment is a fixed number of keys, from a multiple of that number on. Of each row it leaves the
highest score m, the total l of the weights e^(score - m), and the sum a of the values by weight;
two of them fold into one with the highest of both (Milakov and Gimelshein 2018, arXiv 1805.02867):

    m = max(m1, m2)    l = e^(m1 - m) l1 + e^(m2 - m) l2    a = e^(m1 - m) a1 + e^(m2 - m) a2
"""

from __future__ import annotations

from dataclasses import dataclass

from .decode import PackedReader
from .emit import (
    LANES,
    Ptr,
    Val,
    branch,
    broadcast,
    f32,
    floats,
    fma,
    i32,
    i64,
    lane,
    lane_constants,
    lane_mask,
    lane_max,
    lane_sum,
    maximum,
    minimum,
    repeat,
    scalar,
    select,
    size,
    splat,
    truncate,
)
from .library import Arguments
from .source_rows import Source, padded
from .vector_math import exponential

MINUS_INFINITY = float("-inf")
# The highest score of no keys: finite, so that -inf - max is defined where every score is -inf.
LOWEST = -3.4028234663852886e38

MOST_KEYS = 256  # of a segment
PANEL_FLOATS = 32 * 1024  # of a segment of deep heads: half of what stays in an L2 cache

POINTERS = ("query", "result", "mask", "partials")
ARGUMENTS = (
    *POINTERS, "heads", "key_heads", "queries", "keys", "past", "pitch",
    "mask_batch", "mask_head", "mask_query", "mask_key",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attention:
    """
    Static facts: how key and value rows are read, the scale, the mask.

    `shared` is the number of query heads of a key head, where it is known.
    """

    keys: Source
    values: Source
    scale: float
    causal: bool
    masked: bool
    shared: int | None = None

    @property
    def key(self) -> str:
        return (
            f"attention {self.keys.k} {self.keys.key} / {self.values.k} {self.values.key} "
            f"scale={self.scale!r} causal={self.causal} mask={self.masked} shared={self.shared}"
        )

    @property
    def segment(self) -> int:
        """
        Keys of a segment, a multiple of LANES: of the depths alone, since results depend on it.

        >>> from .decode import PlainReader
        >>> [Attention(PlainReader(k), PlainReader(1), 1.0, True, False).segment
        ...  for k in (1, 128, 129, 600, 100_000)]
        [256, 256, 240, 48, 8]
        """
        deepest = max(padded(self.keys.k), padded(self.values.k), 1)
        return max(LANES, min(MOST_KEYS, PANEL_FLOATS // deepest // LANES * LANES))

    @property
    def record(self) -> int:
        """Floats that hold a row of one segment: the sum of values, then m and l."""
        return padded(self.values.k) + LANES

    def segments(self, keys: Val) -> Val:
        return (keys + (self.segment - 1)) // self.segment

    def array_count(self) -> int:
        """Arguments that hold the keys and the values."""
        return sum(map(_array_count, (self.keys, self.values)))


def _array_count(source: Source) -> int:
    return source.part_count + isinstance(source, PackedReader)


class SegmentBody:
    """Emission of what a kernel over segments needs, from its arguments as ARGUMENTS names them."""

    def __init__(self, attention: Attention, arguments: Arguments) -> None:
        self.a = attention
        self.slot: dict[str, Val] = {}
        self.at: dict[str, Ptr] = {}
        for index, name in enumerate(ARGUMENTS):
            if name in POINTERS:
                self.at[name] = arguments.address(index, f32())
            else:
                self.slot[name] = arguments.integer(index)
        self.marks: list[Ptr] = []
        first = len(ARGUMENTS)
        for source in (attention.keys, attention.values):
            source.bind(arguments, first)
            first += _array_count(source)
            if isinstance(source, PackedReader):
                self.marks.append(arguments.address(first - 1, i64()))
        self.shared = self.slot["heads"] // self.slot["key_heads"]
        self.group = self.shared * self.slot["queries"]

    def limit(self, query: Val) -> Val:
        """Keys that query `query` sees."""
        if not self.a.causal:
            return self.slot["keys"]
        return minimum(query + self.slot["past"] + 1, self.slot["keys"])

    def row(self, name: str, plane: Val, row: Val, depth: int) -> Ptr:
        """A query or result row: those of a group lie one after another."""
        return self.at[name].at((plane * self.group + row) * depth)

    def softmax(self, plane: Val, row: Val, scores: Ptr, first: Val, count: Val) -> tuple[Val, Val]:
        """
        Turn products of group row `row` with `count` keys from `first` on into weights, in place.

        Returns m and l of the segment; l is NaN for a query that sees a row which its cache could
        not hold. Whole vectors of weights are written: those from `count` on are zero.
        """
        limit = self.limit(row % self.slot["queries"])
        inside = truncate(minimum(maximum(limit - first, size(0)), count), i32())
        lanes = lane_constants(range(LANES), i32())
        if self.a.masked:
            self._add_mask(plane, row, scores, first, count)

        @repeat(0, count, LANES, carry=(splat(LOWEST),))
        def highest(s: Val, best: Val) -> Val:
            score = scores.at(s).load(floats())
            if not self.a.masked:
                score = score * self.a.scale
            seen = lanes.compare("lt", broadcast(inside - truncate(s, i32())))
            score = select(seen, score, splat(MINUS_INFINITY))
            scores.at(s).store(score)
            # Not `maximum`, whose care for NaN makes each turn wait: the sum below keeps NaN.
            return select(score.compare("gt", best), score, best)

        top = lane_max(highest[0])
        tops = broadcast(top)

        @repeat(0, count, LANES, carry=(splat(0.0),))
        def totals(s: Val, total: Val) -> Val:
            weight = exponential(scores.at(s).load(floats()) - tops)
            scores.at(s).store(weight)
            return total + weight

        return top, self._marked(plane, limit, lane_sum(totals[0]))

    def _marked(self, plane: Val, limit: Val, total: Val) -> Val:
        for marks in self.marks:
            mark = marks.at(plane).load()
            seen = mark.compare("ne", 0) & mark.compare("le", limit)
            total = select(seen, scalar(float("nan")), total)
        return total

    def _add_mask(self, plane: Val, row: Val, scores: Ptr, first: Val, count: Val) -> None:
        """Scale the scores and add the mask, of which nothing behind `count` is read."""
        mask = self._mask(plane, row).at(first * self.slot["mask_key"])

        def add(s: Val, addend: Val) -> None:
            scores.at(s).store(scores.at(s).load(floats()) * self.a.scale + addend)

        def add_each() -> None:
            @repeat(0, count, LANES)
            def _(s: Val) -> None:
                add(s, mask.at(s).load_while(lane_mask(count - s)))

        def add_one() -> None:
            @repeat(0, count, LANES)
            def _(s: Val) -> None:
                add(s, broadcast(mask.load()))

        branch(self.slot["mask_key"].compare("eq", 1), add_each, add_one)

    def _mask(self, plane: Val, row: Val) -> Ptr:
        """The mask of group row `row`, whose key axis is whole or broadcast."""
        key_heads, queries = self.slot["key_heads"], self.slot["queries"]
        head = plane % key_heads * self.shared + row // queries
        return self.at["mask"].at(
            plane // key_heads * self.slot["mask_batch"]
            + head * self.slot["mask_head"]
            + row % queries * self.slot["mask_query"]
        )


@dataclass(frozen=True, slots=True)
class Factors:
    """What folding a segment into those before multiplies their sums of values by."""

    before: Val
    segment: Val

    def folded(self, before: Val, segment: Val) -> Val:
        return fma(segment, broadcast(self.segment), before * broadcast(self.before))


def fold_row(top: Ptr, total: Ptr, segment_top: Val, segment_total: Val) -> Factors:
    """Fold a segment's m and l into those at `top` and `total`, which start as LOWEST and 0."""
    before = top.load()
    highest = maximum(before, segment_top)
    first = lane_constants([1] + [0] * (LANES - 1), i32()).compare("ne", 0)
    both = select(first, broadcast(before), broadcast(segment_top))
    powers = exponential(both - broadcast(highest))
    factors = Factors(lane(powers, 0), lane(powers, 1))
    top.store(highest)
    total.store(total.load() * factors.before + segment_total * factors.segment)
    return factors


def final_factor(total: Val) -> Val:
    """What the sum of values is multiplied by at the end: a row without visible keys gives 0."""
    return select(total.compare("eq", 0.0), scalar(0.0), scalar(1.0) / total)

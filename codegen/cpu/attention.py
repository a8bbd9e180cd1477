"""
The attention kernel: softmax(scale * q k^T + mask) v, a block of query rows at a time.

The query heads that share a key head are rows of one matrix, cut into blocks of `QUERY_ROWS`. For
each block the scores of all visible keys are kept in a scratch on the stack, so that a key and a
value row are read, and decoded where they are packed, once a block. Rows are read with a head
pitch, so that a KV cache with spare capacity and a plain tensor are the same thing to the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from .decode import PackedReader
from .emit import (
    LANES,
    Ptr,
    Val,
    broadcast,
    f32,
    floats,
    fma,
    i64,
    lane_max,
    lane_sum,
    maximum,
    minimum,
    read,
    repeat,
    scalar,
    select,
    size,
    splat,
    vectors,
    write,
)
from .gemm import Source, walk_rows
from .library import Arguments, KernelLibrary, scratch
from .vector_math import exponential

QUERY_ROWS = 4
VALUE_VECTORS = 2
MINUS_INFINITY = float("-inf")
LOWEST = -3.4028234663852886e38


@dataclass(frozen=True, slots=True)
class Attention:
    """Static facts: how key and value rows are read, the scale, and the mask."""

    keys: Source
    values: Source
    scale: float
    causal: bool
    masked: bool

    @property
    def key(self) -> str:
        return (
            f"attention {self.keys.k} {self.keys.key} / {self.values.k} {self.values.key} "
            f"scale={self.scale!r} causal={self.causal} mask={self.masked}"
        )


POINTERS = ("query", "result", "mask")
ARGUMENTS = (
    *POINTERS, "heads", "key_heads", "queries", "keys", "past", "pitch",
    "mask_batch", "mask_head", "mask_query", "mask_key",
)  # fmt: skip


def attention_launcher(library: KernelLibrary, attention: Attention) -> str:
    """
    The launcher of `attention`; arguments as named in ARGUMENTS, sizes in elements.

    `keys` counts the visible keys, `pitch` the rows between two key heads, `past` the keys before
    the first query, `mask_*` the mask's strides. The parts of the keys follow, with their marks if
    they are packed, and the same of the values. total is `tiles` of the sizes.
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        _Body(attention, arguments).run(begin, end)

    count = len(ARGUMENTS) + sum(map(_array_count, (attention.keys, attention.values)))
    return library.launcher(attention.key, count, emit)


def tiles(batch: Val, heads: Val, key_heads: Val, queries: Val) -> Val:
    """Units of work: blocks of the query rows of each key head."""
    return batch * key_heads * _blocks(heads // key_heads * queries)


def _blocks(rows: Val) -> Val:
    return (rows + (QUERY_ROWS - 1)) // QUERY_ROWS


def _array_count(source: Source) -> int:
    return source.part_count + isinstance(source, PackedReader)


class _Body:
    """Emission of the attention body."""

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

    def run(self, begin: Val, end: Val) -> None:
        keys = self.slot["keys"]
        row_pitch = (maximum(keys, size(1)) + (LANES - 1)) // LANES * LANES
        scores = scratch(row_pitch * QUERY_ROWS)
        self.shared = self.slot["heads"] // self.slot["key_heads"]
        self.group = self.shared * self.slot["queries"]
        blocks = _blocks(self.group)

        @repeat(begin, end)
        def _(tile: Val) -> None:
            plane, block = tile // blocks, tile % blocks
            last = self.group - 1
            rows = [minimum(block * QUERY_ROWS + i, last) for i in range(QUERY_ROWS)]
            limits = [self._limit(row) for row in rows]
            visible = reduce(maximum, limits)
            rows_of_scores = [scores.at(row_pitch * i) for i in range(QUERY_ROWS)]
            self._scores(plane, rows, limits, rows_of_scores)
            totals = [self._softmax(row, visible) for row in rows_of_scores]
            totals = [
                self._marked(plane, limit, total)
                for limit, total in zip(limits, totals, strict=True)
            ]
            self._values(plane, rows, visible, rows_of_scores, totals)

    def _limit(self, row: Val) -> Val:
        """Keys that row `row` of a group sees."""
        if not self.a.causal:
            return self.slot["keys"]
        query = row % self.slot["queries"]
        return minimum(query + self.slot["past"] + 1, self.slot["keys"])

    def _row(self, name: str, plane: Val, row: Val, depth: int) -> Ptr:
        """A query or result row: those of a group lie one after another."""
        return self.at[name].at((plane * self.group + row) * depth)

    def _marked(self, plane: Val, limit: Val, factor: Val) -> Val:
        """`factor`, or NaN for a query that sees a row which its cache could not hold."""
        for marks in self.marks:
            mark = marks.at(plane).load()
            seen = mark.compare("ne", 0) & mark.compare("le", limit)
            factor = select(seen, scalar(float("nan")), factor)
        return factor

    def _scores(
        self, plane: Val, rows: Sequence[Val], limits: Sequence[Val], out: Sequence[Ptr]
    ) -> None:
        first = plane * self.slot["pitch"]
        queries = [self._row("query", plane, row, self.a.keys.k) for row in rows]
        visible = reduce(maximum, limits)
        last_vector = (maximum(visible, size(1)) - 1) // LANES * LANES
        for row in out:
            row.at(last_vector).store(splat(MINUS_INFINITY))

        def multiply(k: Val, keys: list[Val], sums: Sequence[Val], count: int) -> Sequence[Val]:
            return [
                fma(read(query.at(k), 0, count), keys[0], total)
                for query, total in zip(queries, sums, strict=True)
            ]

        @repeat(0, visible)
        def _(s: Val) -> None:
            sums = walk_rows(self.a.keys, [first + s], multiply, [splat(0.0)] * QUERY_ROWS)
            for i, (row, total) in enumerate(zip(out, sums, strict=True)):
                score = lane_sum(total) * self.a.scale
                if self.a.masked:
                    score = score + self._mask(plane, rows[i], s)
                if self.a.causal:
                    hidden = scalar(MINUS_INFINITY)
                    score = select(s.compare("lt", limits[i]), score, hidden)
                row.at(s).store(score)

    def _mask(self, plane: Val, row: Val, key: Val) -> Val:
        key_heads, queries = self.slot["key_heads"], self.slot["queries"]
        batch, head = plane // key_heads, plane % key_heads * self.shared + row // queries
        offset = (
            batch * self.slot["mask_batch"]
            + head * self.slot["mask_head"]
            + row % queries * self.slot["mask_query"]
            + key * self.slot["mask_key"]
        )
        return self.at["mask"].at(offset).load()

    def _softmax(self, row: Ptr, visible: Val) -> Val:
        """
        Turn scores into e^(score - max) in place; returns 1 / their sum.

        A row in which every key is masked becomes zeros, and 0 is returned.
        """

        # Starting from a finite number keeps -inf - max defined where every score is -inf.
        @repeat(0, visible, LANES, carry=(splat(LOWEST),))
        def highest(s: Val, best: Val) -> Val:
            return maximum(best, row.at(s).load(floats()))

        top = broadcast(lane_max(highest[0]))

        @repeat(0, visible, LANES, carry=(splat(0.0),))
        def sums(s: Val, total: Val) -> Val:
            weight = exponential(row.at(s).load(floats()) - top)
            row.at(s).store(weight)
            return total + weight

        total = lane_sum(sums[0])
        return select(total.compare("eq", 0.0), scalar(0.0), scalar(1.0) / total)

    def _values(
        self,
        plane: Val,
        rows: Sequence[Val],
        visible: Val,
        weights: Sequence[Ptr],
        factors: Sequence[Val],
    ) -> None:
        first, source = plane * self.slot["pitch"], self.a.values
        pieces = vectors(source.k)
        for start in range(0, len(pieces), VALUE_VECTORS):
            chosen = pieces[start : start + VALUE_VECTORS]
            zeros = [splat(0.0)] * (QUERY_ROWS * len(chosen))

            @repeat(0, visible, carry=zeros)
            def sums(s: Val, *sums: Val, chosen=chosen) -> list[Val]:
                wide = [_piece(source, first + s, k, count) for k, count in chosen]
                factors_now = [broadcast(row.at(s).load()) for row in weights]
                return [
                    fma(factor, column, sums[i * len(chosen) + j])
                    for i, factor in enumerate(factors_now)
                    for j, column in enumerate(wide)
                ]

            for i, row in enumerate(rows):
                out = self._row("result", plane, row, source.k)
                for j, (k, count) in enumerate(chosen):
                    write(out, k, count, sums[i * len(chosen) + j] * broadcast(factors[i]))


def _piece(source: Source, row: Val, k: int, count: int) -> Val:
    """The vector of `row` at k, of which `count` lanes are inside the row."""
    apart = source.ends_apart and k + LANES >= source.k
    read_vector = source.tail if apart or count < LANES else source.vector
    return read_vector(row, size(k), source.scales(row, size(k)))

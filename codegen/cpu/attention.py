"""
The attention kernel: softmax(scale * q k^T + mask) v, a block of query rows at a time.

The query heads that share a key head are rows of one matrix, cut into blocks of a few rows. For
each block the scores of all visible keys are kept in a scratch on the stack, so that a key and a
value row are read, and decoded where they are packed, once a block; many rows of packed keys take
wider blocks. Rows are read with a head pitch, so that a KV cache with spare capacity and a plain
tensor are the same thing to the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

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

MINUS_INFINITY = float("-inf")
LOWEST = -3.4028234663852886e38


@dataclass(frozen=True, slots=True)
class Block:
    """Query rows that share the reading of keys and values, and value vectors at a time."""

    rows: int
    value_vectors: int

    def count(self, rows: Val) -> Val:
        return (rows + (self.rows - 1)) // self.rows


NARROW, WIDE = Block(4, 2), Block(8, 2)
WIDE_FROM = 3 * WIDE.rows  # fewer rows would leave too much of the last block empty


@dataclass(frozen=True, slots=True)
class Attention:
    """Static facts: how key and value rows are read, the scale, and the mask."""

    keys: Source
    values: Source
    scale: float
    causal: bool
    masked: bool

    @property
    def packed(self) -> bool:
        return any(isinstance(source, PackedReader) for source in (self.keys, self.values))

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


def tiles(attention: Attention, batch: Val, heads: Val, key_heads: Val, queries: Val) -> Val:
    """Units of work: blocks of the query rows of each key head."""
    group = heads // key_heads * queries
    blocks = NARROW.count(group)
    if attention.packed:
        blocks = select(group.compare("ge", WIDE_FROM), WIDE.count(group), blocks)
    return batch * key_heads * blocks


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
        self.shared = self.slot["heads"] // self.slot["key_heads"]
        self.group = self.shared * self.slot["queries"]

        def narrow() -> None:
            self._tiles(NARROW, begin, end)

        if self.a.packed:
            many = self.group.compare("ge", WIDE_FROM)
            branch(many, lambda: self._tiles(WIDE, begin, end), narrow)
        else:
            narrow()

    def _tiles(self, shape: Block, begin: Val, end: Val) -> None:
        keys = self.slot["keys"]
        row_pitch = (maximum(keys, size(1)) + (LANES - 1)) // LANES * LANES
        scores, factors = scratch(row_pitch * shape.rows), scratch(shape.rows)
        blocks = shape.count(self.group)

        @repeat(begin, end)
        def _(tile: Val) -> None:
            plane, block = tile // blocks, tile % blocks
            last = self.group - 1
            rows = [minimum(block * shape.rows + i, last) for i in range(shape.rows)]
            limits = [self._limit(row) for row in rows]
            visible = reduce(maximum, limits)
            rows_of_scores = [scores.at(row_pitch * i) for i in range(shape.rows)]
            self._scores(plane, rows, limits, rows_of_scores)

            @repeat(0, shape.rows)
            def _(i: Val) -> None:
                total = self._softmax(scores.at(row_pitch * i), visible)
                limit = self._limit(minimum(block * shape.rows + i, last))
                factors.at(i).store(self._marked(plane, limit, total))

            totals = [factors.at(i).load() for i in range(shape.rows)]
            for start in range(0, self.a.values.k, shape.value_vectors * LANES):
                chosen = vectors(self.a.values.k)[start // LANES :][: shape.value_vectors]
                sums = self._values(plane, visible, rows_of_scores, chosen)
                self._store(plane, rows, totals, chosen, sums)

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
            sums = walk_rows(self.a.keys, [first + s], multiply, [splat(0.0)] * len(rows))
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
        self, plane: Val, visible: Val, weights: Sequence[Ptr], chosen: Sequence[tuple[int, int]]
    ) -> list[Val]:
        """For each row, the vectors `chosen` of the sum of values by its weights."""
        first, source = plane * self.slot["pitch"], self.a.values

        @repeat(0, visible, carry=[splat(0.0)] * (len(weights) * len(chosen)))
        def sums(s: Val, *sums: Val) -> list[Val]:
            wide = [_piece(source, first + s, k, count) for k, count in chosen]
            factors = [broadcast(row.at(s).load()) for row in weights]
            terms = product(factors, wide)
            return [fma(*term, total) for term, total in zip(terms, sums, strict=True)]

        return sums

    def _store(
        self,
        plane: Val,
        rows: Sequence[Val],
        totals: Sequence[Val],
        chosen: Sequence[tuple[int, int]],
        sums: Sequence[Val],
    ) -> None:
        for i, (row, total) in enumerate(zip(rows, totals, strict=True)):
            out = self._row("result", plane, row, self.a.values.k)
            for j, (k, count) in enumerate(chosen):
                write(out, k, count, sums[i * len(chosen) + j] * broadcast(total))


def _piece(source: Source, row: Val, k: int, count: int) -> Val:
    """The vector of `row` at k, of which `count` lanes are inside the row."""
    apart = source.ends_apart and k + LANES >= source.k
    read_vector = source.tail if apart or count < LANES else source.vector
    return read_vector(row, size(k), source.scales(row, size(k)))

"""
The attention kernel: softmax(scale * q k^T + mask) v, a block of query rows at a time.

For each (batch, head) and each block of `QUERY_ROWS` queries the scores of all visible keys are
kept in a scratch on the stack, so that a key and a value row are read once a block. Keys and
values are read with a head pitch in rows, so that a KV cache with spare capacity and a plain
tensor are the same thing to the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .emit import (
    LANES,
    Ptr,
    Val,
    broadcast,
    f32,
    floats,
    fma,
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
from .library import Arguments, KernelLibrary, scratch
from .vector_math import exponential

QUERY_ROWS = 4
VALUE_VECTORS = 2
MINUS_INFINITY = float("-inf")
LOWEST = -3.4028234663852886e38


@dataclass(frozen=True, slots=True)
class Attention:
    """Static facts: sizes of a query/key row and of a value row, the scale, and the mask."""

    depth: int
    value_depth: int
    scale: float
    causal: bool
    masked: bool

    @property
    def key(self) -> str:
        return (
            f"attention {self.depth}/{self.value_depth} scale={self.scale!r} "
            f"causal={self.causal} mask={self.masked}"
        )


ARGUMENTS = (
    "query", "key", "value", "result", "heads", "key_heads", "queries", "keys", "past", "pitch",
    "mask", "mask_batch", "mask_head", "mask_query", "mask_key",
)  # fmt: skip


def attention_launcher(library: KernelLibrary, attention: Attention) -> str:
    """
    The launcher of `attention`; arguments as named in ARGUMENTS, sizes in elements.

    `keys` counts the visible keys, `pitch` the rows between two key heads, `past` the keys before
    the first query, `mask_*` the mask's strides. total is batch * heads * ceil(queries / 4).
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        _Body(attention, arguments).run(begin, end)

    return library.launcher(attention.key, len(ARGUMENTS), emit)


def append_launcher(library: KernelLibrary, depth: int) -> str:
    """
    The launcher that copies rows into a cache.

    Arguments: rows, cache, rows a plane, the first free row, the capacity; total is the number of
    planes (batch * heads).
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        rows, cache = arguments.address(0, f32()), arguments.address(1, f32())
        count, past, capacity = (arguments.integer(index) for index in range(2, 5))

        @repeat(begin, end)
        def _(plane: Val) -> None:
            @repeat(0, count)
            def _(row: Val) -> None:
                source = rows.at((plane * count + row) * depth)
                target = cache.at((plane * capacity + past + row) * depth)
                for k, lanes in vectors(depth):
                    write(target, k, lanes, read(source, k, lanes))

    return library.launcher(f"append {depth}", 5, emit)


class _Body:
    """Emission of the attention body."""

    def __init__(self, attention: Attention, arguments: Arguments) -> None:
        self.a = attention
        pointers = {"query", "key", "value", "result", "mask"}
        self.slot: dict[str, Val] = {}
        self.at: dict[str, Ptr] = {}
        for index, name in enumerate(ARGUMENTS):
            if name in pointers:
                self.at[name] = arguments.address(index, f32())
            else:
                self.slot[name] = arguments.integer(index)

    def run(self, begin: Val, end: Val) -> None:
        keys = self.slot["keys"]
        row_pitch = (maximum(keys, size(1)) + (LANES - 1)) // LANES * LANES
        scores = scratch(row_pitch * QUERY_ROWS)
        query_blocks = (self.slot["queries"] + (QUERY_ROWS - 1)) // QUERY_ROWS

        @repeat(begin, end)
        def _(tile: Val) -> None:
            plane, block = tile // query_blocks, tile % query_blocks
            last = self.slot["queries"] - 1
            rows = [minimum(block * QUERY_ROWS + i, last) for i in range(QUERY_ROWS)]
            limits = [self._limit(row) for row in rows]
            rows_of_scores = [scores.at(row_pitch * i) for i in range(QUERY_ROWS)]
            self._scores(plane, rows, limits, rows_of_scores)
            totals = [self._softmax(row, limits[-1]) for row in rows_of_scores]
            self._values(plane, rows, limits[-1], rows_of_scores, totals)

    def _limit(self, row: Val) -> Val:
        """Keys that query `row` sees."""
        if not self.a.causal:
            return self.slot["keys"]
        return minimum(row + self.slot["past"] + 1, self.slot["keys"])

    def _head(self, plane: Val) -> tuple[Val, Val]:
        """(batch, head) of a plane, and the key plane it reads."""
        heads, key_heads = self.slot["heads"], self.slot["key_heads"]
        batch, head = plane // heads, plane % heads
        return batch * key_heads + head // (heads // key_heads), batch

    def _scores(
        self, plane: Val, rows: Sequence[Val], limits: Sequence[Val], out: Sequence[Ptr]
    ) -> None:
        key_plane, batch = self._head(plane)
        keys = self.at["key"].at(key_plane * self.slot["pitch"] * self.a.depth)
        queries = [
            self.at["query"].at((plane * self.slot["queries"] + row) * self.a.depth) for row in rows
        ]
        visible = limits[-1]
        last_vector = (maximum(visible, size(1)) - 1) // LANES * LANES
        for row in out:
            row.at(last_vector).store(splat(MINUS_INFINITY))

        @repeat(0, visible)
        def _(s: Val) -> None:
            key = keys.at(s * self.a.depth)
            sums = [splat(0.0)] * QUERY_ROWS
            for k, count in vectors(self.a.depth):
                wide = read(key, k, count)
                sums = [
                    fma(read(query, k, count), wide, total)
                    for query, total in zip(queries, sums, strict=True)
                ]
            for i, (row, total) in enumerate(zip(out, sums, strict=True)):
                score = lane_sum(total) * self.a.scale
                if self.a.masked:
                    score = score + self._mask(plane, batch, rows[i], s)
                if self.a.causal:
                    hidden = scalar(MINUS_INFINITY)
                    score = select(s.compare("lt", limits[i]), score, hidden)
                row.at(s).store(score)

    def _mask(self, plane: Val, batch: Val, row: Val, key: Val) -> Val:
        head = plane % self.slot["heads"]
        offset = (
            batch * self.slot["mask_batch"]
            + head * self.slot["mask_head"]
            + row * self.slot["mask_query"]
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
        key_plane, _ = self._head(plane)
        values = self.at["value"].at(key_plane * self.slot["pitch"] * self.a.value_depth)
        pieces = vectors(self.a.value_depth)
        for start in range(0, len(pieces), VALUE_VECTORS):
            chosen = pieces[start : start + VALUE_VECTORS]
            zeros = [splat(0.0)] * (QUERY_ROWS * len(chosen))

            @repeat(0, visible, carry=zeros)
            def sums(s: Val, *sums: Val, chosen=chosen) -> list[Val]:
                value = values.at(s * self.a.value_depth)
                wide = [read(value, k, count) for k, count in chosen]
                factors_now = [broadcast(row.at(s).load()) for row in weights]
                return [
                    fma(factor, column, sums[i * len(chosen) + j])
                    for i, factor in enumerate(factors_now)
                    for j, column in enumerate(wide)
                ]

            for i, row in enumerate(rows):
                out = self.at["result"].at(
                    (plane * self.slot["queries"] + row) * self.a.value_depth
                )
                for j, (k, count) in enumerate(chosen):
                    write(out, k, count, sums[i * len(chosen) + j] * broadcast(factors[i]))

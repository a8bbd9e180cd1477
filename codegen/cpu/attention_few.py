"""
Attention of few rows: a unit of work is one segment of the keys of one key head.

Packed rows go from their bytes to registers, for a block of query rows at a time. What a unit
finds goes to a record of its own for each row: the sum of values, m and l (`attention_segment`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product

from .attention_segment import Attention, SegmentBody
from .emit import (
    LANES,
    Ptr,
    Val,
    broadcast,
    fma,
    lane_sums,
    maximum,
    minimum,
    read,
    repeat,
    shuffle,
    size,
    splat,
    vectors,
)
from .library import Arguments, KernelLibrary, scratch
from .source_rows import Source, padded, walk_rows


def block_rows(shared: int | None) -> int:
    """
    Query rows that share the reading of keys and values: those of a token fill whole blocks.

    >>> [block_rows(shared) for shared in (1, 2, 3, 4, 5, 6, 7, 8, 9, None)]
    [1, 2, 3, 4, 3, 3, 4, 4, 3, 4]
    """
    if shared is None or shared <= 4:
        return shared or 4
    return min((4, 3), key=lambda rows: -(-shared // rows) * rows)


def accumulators(features: frozenset[str]) -> int:
    """Vectors to hold in registers, beside what decoding takes: 32 registers or 16."""
    return 16 if "avx512vl" in features else 12


def value_accumulators(features: frozenset[str]) -> int:
    """Those of sums of values: one vector at a time is decoded, multiplied and forgotten."""
    return 24 if "avx512vl" in features else accumulators(features)


def evenly(count: int, most: int) -> int:
    """
    The size of parts, at most `most` each, of which the last is hardly smaller.

    >>> [evenly(8, most) for most in (3, 5, 8)]
    [3, 4, 8]
    """
    parts = -(-count // most)
    return -(-count // max(1, parts))


class FewRows(SegmentBody):
    """Emission of the body; units go through the segments of a key head, then to the next head."""

    def __init__(self, attention: Attention, library: KernelLibrary, arguments: Arguments) -> None:
        super().__init__(attention, arguments)
        room = accumulators(library.features)
        self.rows = block_rows(attention.shared)
        self.keys_at_once = max(n for n in (1, 2, 4, 8) if n * self.rows <= room)
        most = value_accumulators(library.features) // self.rows
        self.vectors_at_once = evenly(len(vectors(attention.values.k)), most)

    def run(self, begin: Val, end: Val) -> None:
        scores = scratch(self.a.segment * self.rows)
        segments = self.a.segments(self.slot["keys"])
        blocks = (self.group + (self.rows - 1)) // self.rows

        @repeat(begin, end)
        def _(unit: Val) -> None:
            plane, first = unit // segments, unit % segments * self.a.segment

            @repeat(0, blocks)
            def _(block: Val) -> None:
                self._block(plane, unit, first, block * self.rows, scores)

    def _block(self, plane: Val, unit: Val, first: Val, start: Val, scores: Ptr) -> None:
        last, queries = self.group - 1, self.slot["queries"]
        rows = [minimum(start + i, last) for i in range(self.rows)]
        visible = reduce(maximum, [self.limit(row % queries) for row in rows])
        count = minimum(maximum(visible - first, size(0)), self.a.segment)
        self._multiply_keys(plane, rows, (first, count), scores)

        # Rows of the last block that repeat its last one write the same record again.
        @repeat(0, self.rows)
        def _(i: Val) -> None:
            row = minimum(start + i, last)
            found = self.softmax(plane, row, scores.at(i * self.a.segment), first, count)
            end = self._record(unit, row).at(padded(self.a.values.k))
            for place, value in enumerate(found):
                end.at(place).store(value)

        records = [self._record(unit, row) for row in rows]
        at_once = self.vectors_at_once * LANES
        for k in range(0, self.a.values.k, at_once):
            chosen = vectors(self.a.values.k)[k // LANES :][: self.vectors_at_once]
            self._add_values(plane, (first, count), scores, chosen, records)

    def _record(self, unit: Val, row: Val) -> Ptr:
        return self.at["partials"].at((unit * self.group + row) * self.a.record)

    def _multiply_keys(
        self, plane: Val, rows: Sequence[Val], span: tuple[Val, Val], scores: Ptr
    ) -> None:
        """Products of the rows with the `span` (first, count) of keys, each row to its scores."""
        first, count = span
        queries = [self.row("query", plane, row, self.a.keys.k) for row in rows]
        start, last = plane * self.slot["pitch"] + first, count - 1

        def multiply(k: Val, keys: list[Val], sums: Sequence[Val], lanes: int) -> Sequence[Val]:
            wide = [read(query.at(k), 0, lanes) for query in queries]
            terms = product(wide, keys)
            return [fma(*term, total) for term, total in zip(terms, sums, strict=True)]

        @repeat(0, count, self.keys_at_once)
        def _(s: Val) -> None:
            keys = [start + minimum(s + j, last) for j in range(self.keys_at_once)]
            zeros = [splat(0.0)] * (self.rows * self.keys_at_once)
            sums = walk_rows(self.a.keys, keys, multiply, zeros)
            store_sums(sums, [scores.at(s + i * self.a.segment) for i in range(self.rows)])

    def _add_values(
        self,
        plane: Val,
        span: tuple[Val, Val],
        weights: Ptr,
        chosen: Sequence[tuple[int, int]],
        records: Sequence[Ptr],
    ) -> None:
        """The vectors `chosen` of the sum of values by weight, each row to its record."""
        first, count = span
        start, source = plane * self.slot["pitch"] + first, self.a.values

        @repeat(0, count, carry=[splat(0.0)] * (self.rows * len(chosen)))
        def sums(s: Val, *sums: Val) -> list[Val]:
            wide = [_piece(source, start + s, k, lanes) for k, lanes in chosen]
            factors = [
                broadcast(weights.at(s + i * self.a.segment).load()) for i in range(self.rows)
            ]
            terms = product(factors, wide)
            return [fma(*term, total) for term, total in zip(terms, sums, strict=True)]

        places = product(records, chosen)
        for total, (record, (k, _)) in zip(sums, places, strict=True):
            record.at(k).store(total)


def store_sums(sums: Sequence[Val], targets: Sequence[Ptr]) -> None:
    """The lane sums of as many of `sums` for each of `targets`, the first target's ones first."""
    count = len(sums) // len(targets)
    together = LANES // count
    for start in range(0, len(targets), together):
        some = targets[start : start + together]
        held = sums[start * count : (start + len(some)) * count]
        filled = [*held, *[held[-1]] * (_power_above(len(held)) - len(held))]
        wide = lane_sums(filled)
        for index, target in enumerate(some):
            picks = range(index * count, (index + 1) * count)
            target.store(wide if count == LANES else shuffle(wide, wide, picks))


def _power_above(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _piece(source: Source, row: Val, k: int, count: int) -> Val:
    """The vector of `row` at k, of which `count` lanes are inside the row."""
    apart = source.ends_apart and k + LANES >= source.k
    read_vector = source.tail if apart or count < LANES else source.vector
    return read_vector(row, size(k), source.scales(row, size(k)))

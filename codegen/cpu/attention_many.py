"""
Attention of many rows: a unit of work is a block of queries, with all heads that share a key head.

A segment of packed keys and values is decoded once for all rows of the unit, into panels that
stay in the L2 cache. A few rows at a time are then multiplied with it in register tiles, from
scores to folded sums of values, so that scores and weights stay in the L1 cache. The sums so far
are held where the result will be. Segments that no row sees are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

from .attention_few import accumulators, store_sums
from .attention_segment import (
    LOWEST,
    Attention,
    Factors,
    SegmentBody,
    final_factor,
    fold_row,
)
from .decode import PlainReader
from .emit import (
    LANES,
    Ptr,
    Val,
    branch,
    broadcast,
    either,
    floats,
    fma,
    maximum,
    minimum,
    read,
    repeat,
    scalar,
    size,
    splat,
    vectors,
    write,
)
from .library import Arguments, KernelLibrary, scratch
from .source_rows import Source, decode_rows, padded

ROWS = 8  # whose scores are held at a time
TILE_ROWS = 4  # whose sums of values are held in registers
UNIT_ROWS = 96
KEYS_AT_ONCE = 4


def queries_of_unit(shared: Val) -> Val:
    return maximum(size(UNIT_ROWS) // shared, size(1))


def query_blocks(shared: Val, queries: Val) -> Val:
    """Units of a key head."""
    most = queries_of_unit(shared)
    return (queries + most - 1) // most


class Panel:
    """Rows of a segment as padded floats: the source's own where they are, or decoded ones."""

    def __init__(self, source: Source, rows: int) -> None:
        self.depth = source.k
        self.pitch = padded(source.k)
        self._source = source
        self._decoded = None
        if not isinstance(source, PlainReader) or source.k % LANES:
            self._decoded = scratch(rows * self.pitch)

    def fill(self, first: Val, count: Val) -> Ptr:
        """The address of `count` rows from `first` on, decoded where they have to be."""
        decoded, source = self._decoded, self._source
        if decoded is None:
            assert isinstance(source, PlainReader)
            return source.address(first)

        @repeat(0, count)
        def _(s: Val) -> None:
            decode_rows(source, [first + s], decoded.at(s * self.pitch))

        return decoded


@dataclass(frozen=True, slots=True)
class Unit:
    """Queries from `start` on of the heads on key head `plane`; rows by head, then by query."""

    plane: Val
    start: Val
    queries: Val
    rows: Val


@dataclass(frozen=True, slots=True)
class Segment:
    """Keys from `first` on, of which some row of the unit sees `count`, and their rows."""

    first: Val
    count: Val
    keys: Ptr
    values: Ptr


@dataclass(frozen=True, slots=True)
class State:
    """Of each row of a unit m and l so far; of the rows at hand their scores and factors."""

    tops: Ptr
    totals: Ptr
    scores: Ptr
    before: Ptr
    segment: Ptr
    spare: Ptr


class ManyRows(SegmentBody):
    """Emission of the body; units go through the queries of a key head, then to the next head."""

    def __init__(self, attention: Attention, library: KernelLibrary, arguments: Arguments) -> None:
        super().__init__(attention, arguments)
        wide = accumulators(library.features) >= 4 * KEYS_AT_ONCE
        self.rows_at_once = 4 if wide else 2
        self.vectors_at_once = 4 if wide else 2

    def run(self, begin: Val, end: Val) -> None:
        most = queries_of_unit(self.shared)
        blocks = query_blocks(self.shared, self.slot["queries"])
        rows = most * self.shared + ROWS
        self.state = State(
            *map(scratch, (rows, rows, ROWS * self.a.segment, ROWS, ROWS, padded(self.a.values.k)))
        )
        self.panels = [Panel(source, self.a.segment) for source in (self.a.keys, self.a.values)]

        @repeat(begin, end)
        def _(number: Val) -> None:
            start = number % blocks * most
            queries = minimum(most, self.slot["queries"] - start)
            self._unit(Unit(number // blocks, start, queries, self.shared * queries))

    def _unit(self, unit: Unit) -> None:
        self._clear(unit)
        visible = self.limit(unit.start + unit.queries - 1)

        @repeat(0, visible, self.a.segment)
        def _(first: Val) -> None:
            count = minimum(visible - first, self.a.segment)
            row = unit.plane * self.slot["pitch"] + first
            keys, values = (panel.fill(row, count) for panel in self.panels)

            @repeat(0, unit.rows, ROWS)
            def _(start: Val) -> None:
                self._rows(unit, Segment(first, count, keys, values), start)

        @repeat(0, unit.rows)
        def _(i: Val) -> None:
            factor = broadcast(final_factor(self.state.totals.at(i).load()))
            out = self._result(unit, i)
            for k, lanes in vectors(self.a.values.k):
                write(out, k, lanes, read(out, k, lanes) * factor)

    def _clear(self, unit: Unit) -> None:
        for k in range(0, self.panels[1].pitch, LANES):
            self.state.spare.at(k).store(splat(0.0))

        @repeat(0, unit.rows)
        def _(i: Val) -> None:
            self.state.tops.at(i).store(scalar(LOWEST))
            self.state.totals.at(i).store(scalar(0.0))
            out = self._result(unit, i)
            for k, lanes in vectors(self.a.values.k):
                write(out, k, lanes, splat(0.0))

    def _query(self, unit: Unit, i: Val) -> Val:
        return unit.start + i % unit.queries

    def _group_row(self, unit: Unit, i: Val) -> Val:
        """The place of row `i` of the unit among all rows of its key head."""
        return i // unit.queries * self.slot["queries"] + self._query(unit, i)

    def _result(self, unit: Unit, i: Val) -> Ptr:
        return self.row("result", unit.plane, self._group_row(unit, i), self.a.values.k)

    def _rows(self, unit: Unit, segment: Segment, start: Val) -> None:
        """Fold `segment` into the ROWS rows from `start` on, of which the unit may have fewer."""
        last = unit.rows - 1
        rows = [minimum(start + i, last) for i in range(ROWS)]
        limits = [self.limit(self._query(unit, row)) for row in rows]
        count = minimum(reduce(maximum, limits) - segment.first, segment.count)

        def fold() -> None:
            self._multiply_keys(unit, rows, segment, count)
            self._weigh(unit, segment, start, count)

            @repeat(0, ROWS, TILE_ROWS)
            def _(i: Val) -> None:
                outs = [self._target(unit, start + i + j) for j in range(TILE_ROWS)]
                for k in range(0, self.a.values.k, self.vectors_at_once * LANES):
                    chosen = vectors(self.a.values.k)[k // LANES :][: self.vectors_at_once]
                    self._add_values(segment.values, i, count, chosen, outs)

        branch(count.compare("gt", 0), fold)

    def _target(self, unit: Unit, i: Val) -> Ptr:
        """Where row `i` of the unit is summed up; a spare row where the unit has fewer."""
        inside = i.compare("lt", unit.rows)
        return either(inside, self._result(unit, minimum(i, unit.rows - 1)), self.state.spare)

    def _multiply_keys(self, unit: Unit, rows: Sequence[Val], segment: Segment, count: Val) -> None:
        depth, pitch = self.a.keys.k, self.panels[0].pitch
        queries = [self.row("query", unit.plane, self._group_row(unit, row), depth) for row in rows]

        @repeat(0, count, KEYS_AT_ONCE)
        def _(s: Val) -> None:
            ahead = [minimum(s + j, count - 1) for j in range(KEYS_AT_ONCE)]
            keys = [segment.keys.at(row * pitch) for row in ahead]
            for i in range(0, ROWS, self.rows_at_once):
                some = queries[i : i + self.rows_at_once]
                scores = [
                    self.state.scores.at(s + (i + j) * self.a.segment) for j in range(len(some))
                ]
                store_sums(_products(some, keys, depth), scores)

    def _weigh(self, unit: Unit, segment: Segment, start: Val, count: Val) -> None:
        """Scores to weights, and the factors that fold the rows' sums of values."""

        @repeat(0, minimum(unit.rows - start, ROWS))
        def _(i: Val) -> None:
            row = start + i
            top, total = self.softmax(
                unit.plane,
                self._group_row(unit, row),
                self.state.scores.at(i * self.a.segment),
                segment.first,
                count,
            )
            factors = fold_row(self.state.tops.at(row), self.state.totals.at(row), top, total)
            self.state.before.at(i).store(factors.before)
            self.state.segment.at(i).store(factors.segment)

    def _add_values(
        self,
        values: Ptr,
        start: Val,
        count: Val,
        chosen: Sequence[tuple[int, int]],
        outs: Sequence[Ptr],
    ) -> None:
        """Fold the vectors `chosen` of values by weight into `outs`, of rows from `start` on."""
        pitch, state = self.panels[1].pitch, self.state
        weights = [state.scores.at((start + i) * self.a.segment) for i in range(len(outs))]

        @repeat(0, count, carry=[splat(0.0)] * (len(outs) * len(chosen)))
        def sums(s: Val, *sums: Val) -> list[Val]:
            row = values.at(s * pitch)
            wide = [row.at(k).load(floats()) for k, _ in chosen]
            factors = [broadcast(weight.at(s).load()) for weight in weights]
            terms = product(factors, wide)
            return [fma(*term, total) for term, total in zip(terms, sums, strict=True)]

        for i, out in enumerate(outs):
            factors = Factors(state.before.at(start + i).load(), state.segment.at(start + i).load())
            for (k, lanes), part in zip(chosen, sums[i * len(chosen) :], strict=False):
                write(out, k, lanes, factors.folded(read(out, k, lanes), part))


def _products(queries: Sequence[Ptr], keys: Sequence[Ptr], depth: int) -> list[Val]:
    """The sums of each query with each key, lanes apart, as `FewRows` adds them up."""
    whole = depth // LANES * LANES

    def step(at: Val, sums: Sequence[Val], lanes: int = LANES) -> list[Val]:
        wide = [key.at(at).load(floats()) for key in keys]
        terms = product([read(query.at(at), 0, lanes) for query in queries], wide)
        return [fma(*term, total) for term, total in zip(terms, sums, strict=True)]

    zeros = [splat(0.0)] * (len(queries) * len(keys))
    sums = repeat(0, whole, LANES, carry=zeros)(lambda at, *sums: step(at, sums))
    return step(size(whole), sums, depth - whole) if whole < depth else sums

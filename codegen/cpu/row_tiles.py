"""
Products of plain fp32 weights with some rows of x, too few to pay for turning weights into panels.

A lane is a position of k: neither operand is moved. Tiles of rows of weights times rows of x keep
their sums in registers, lane by lane, over `DEPTH` values of k; the sums of a unit of work, which
has all rows of x, wait in a scratch in between. So a unit's weights come from memory once, for its
first rows of x, and out of the first-level cache for the others. Meanwhile the next part of k, or
the next unit, is fetched: weights are read as long as there is something to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...dialects.formats.panels import PANEL_ROWS
from .decode import PlainReader
from .emit import Ptr, Val, constant, f32, fma, lane_mask, lane_sum, minimum, repeat, select, size
from .library import scratch
from .panel_codes import wide

ROWS, WEIGHTS = 4, 6  # of a tile: 24 sums, and what they are made of, in 32 registers
DEPTH = 1024  # six rows of weights are half of what a first-level cache holds
MOST_ROWS = 40
LANES = PANEL_ROWS
FETCHED = 2  # rows of weights in the time of a tile
SECOND_LEVEL = 2


@dataclass(frozen=True, slots=True)
class RowTiles:
    """Emission of y [m, n] = x [m, k] times weights + bias, for `m` of at most `MOST_ROWS`."""

    n: int
    k: int
    m: Val
    x: Ptr
    y: Ptr
    bias: Ptr | None
    weight: PlainReader

    def run(self, begin: Val, end: Val) -> None:
        """Units of work are `WEIGHTS` rows of weights each."""
        held = scratch(MOST_ROWS * WEIGHTS * LANES)

        @repeat(begin, end)
        def _(unit: Val) -> None:
            self._each_tile(lambda _, room: _store(room, [constant(0, wide(f32()))] * _TILE), held)
            first, following = unit * WEIGHTS, (unit + 1) * WEIGHTS
            whole = self.k // DEPTH * DEPTH

            def part(k: Val) -> None:
                more = (k + DEPTH).compare("lt", self.k)
                ahead = select(more, first, following), select(more, k + DEPTH, size(0))
                self._part(first, (k, DEPTH), ahead, held)

            if whole:
                repeat(0, whole, DEPTH)(part)
            if whole < self.k:
                self._part(first, (size(whole), self.k - whole), (following, size(0)), held)
            self._each_tile(lambda m, room: self._finish(first, m, room), held)

    def _each_tile(self, visit: Callable[[Val, Ptr], None], held: Ptr) -> None:
        """`visit(first row of x, where its sums are held)`."""

        @repeat(0, self.m, ROWS)
        def _(m: Val) -> None:
            visit(m, held.at(m * (WEIGHTS * LANES)))

    def _row(self, row: Val) -> Ptr:
        """Of weights; behind the last row it comes again, and gives the same."""
        return self.weight.address(minimum(row, self.n - 1))

    def _part(
        self, first: Val, span: tuple[Val, int], following: tuple[Val, Val], held: Ptr
    ) -> None:
        """Add the products of `span` (first k, length) while those `following` are fetched."""
        start, length = span
        weights = [self._row(first + j).at(start) for j in range(WEIGHTS)]
        whole = length // LANES * LANES

        def tile(m: Val, room: Ptr) -> None:
            xs = [self.x.at(minimum(m + i, self.m - 1) * self.k + start) for i in range(ROWS)]
            fetched = m // ROWS * FETCHED
            ahead = [
                self._row(following[0] + minimum(fetched + i, WEIGHTS - 1)).at(following[1])
                for i in range(FETCHED)
            ]

            @repeat(0, whole, LANES, carry=_load(room))
            def sums(k: Val, *sums: Val) -> list[Val]:
                for row in ahead:
                    row.at(k).prefetch(SECOND_LEVEL)
                return _products(
                    [w.at(k).load(wide(f32())) for w in weights],
                    [x.at(k).load(wide(f32())) for x in xs],
                    sums,
                )

            if whole < length:
                mask = lane_mask(size(length - whole), LANES)
                sums = _products(
                    [w.at(whole).load_while(mask) for w in weights],
                    [x.at(whole).load_while(mask) for x in xs],
                    sums,
                )
            _store(room, sums)

        self._each_tile(tile, held)

    def _finish(self, first: Val, m: Val, room: Ptr) -> None:
        """Add up lanes; rows of x behind the last are those of the last again."""
        sums = _load(room)
        for j in range(WEIGHTS):
            channel = minimum(first + j, self.n - 1)
            bias = None if self.bias is None else self.bias.at(channel).load()
            for i in range(ROWS):
                total = lane_sum(sums[j * ROWS + i])
                target = self.y.at(minimum(m + i, self.m - 1) * self.n + channel)
                target.store(total if bias is None else total + bias)


_TILE = ROWS * WEIGHTS


def _products(weights: Sequence[Val], xs: Sequence[Val], sums: Sequence[Val]) -> list[Val]:
    pairs = [(weight, x) for weight in weights for x in xs]
    return [fma(weight, x, total) for (weight, x), total in zip(pairs, sums, strict=True)]


def _load(room: Ptr) -> list[Val]:
    return [room.at(i * LANES).load(wide(f32())) for i in range(_TILE)]


def _store(room: Ptr, sums: Sequence[Val]) -> None:
    for i, total in enumerate(sums):
        room.at(i * LANES).store(total)

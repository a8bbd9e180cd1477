"""
Products of panels of weights with many rows of x, both integers times scales, in register tiles.

A tile is a few rows of x times a few panels: a word of x, four neighbours of a row, is loaded once
for all its panels, and four codes of a panel once for all its rows. Codes become bytes anew in each
tile; or in the first tile alone, which leaves them in a scratch for the others. Meanwhile the
panels behind them are fetched: they come from memory as long as there is something to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...dialects.formats.panels import PANEL_ROWS
from .emit import Ptr, Val, broadcast, i32, repeat
from .integer_sums import IntegerSums
from .library import scratch
from .panel_codes import Ahead, wide
from .panel_decode import STRIDE, UNROLLED
from .panel_reader import BlockScales

WORD = 4  # codes


@dataclass(frozen=True, slots=True)
class Bytes:
    """The bytes of a tile's panels: i32 [panels, operands, words, 16]."""

    address: Ptr
    words: int

    def at(self, panel: int, place: int, places: int, word: Val, beyond: int) -> Ptr:
        """Where the words of sixteen rows are, `beyond` words behind `word`."""
        first = (panel * places + place) * self.words + beyond
        return self.address.at(word * PANEL_ROWS).at(first * PANEL_ROWS)


@dataclass(frozen=True, slots=True)
class Decoding:
    """
    How a tile gets its bytes: from codes, from those that another tile has `kept`, or from codes
    for itself and to keep.
    """

    held: Bytes | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Tile:
    """Panels of weights and rows of x, by their numbers."""

    panels: Sequence[Val]
    rows: Sequence[Val]


class TiledSums(IntegerSums):
    """As `IntegerSums` of rows of one digit, for several panels at a time."""

    def room(self, panels: int) -> Bytes:
        words = -(-self._w.k // WORD)
        address = scratch(panels * self._elements.operands * words * PANEL_ROWS)
        return Bytes(Ptr(address.ssa, i32()), words)

    def behind(self, panels: int) -> Ahead:
        """From a word to the same one so many panels later."""
        return Ahead(panels * self._w.panel_bytes, near=False)

    def tile(self, tile: Tile, biases: Sequence[Val], decoding: Decoding) -> list[list[Val]]:
        """For each panel and row the bias of the panel + the products."""

        def of_segment(segment: Val, length: int, held: list[Val], _: int) -> list[Val]:
            return self._tile_segment(tile, segment, length, held, decoding)

        count = len(tile.rows)
        ms = [*tile.rows] * len(biases)
        initial = [bias for bias in biases for _ in tile.rows]
        totals = self._over_segments(ms, initial, of_segment, None)
        return [totals[i : i + count] for i in range(0, len(totals), count)]

    def _tile_segment(
        self, tile: Tile, segment: Val, length: int, totals: Sequence[Val], decoding: Decoding
    ) -> list[Val]:
        start = segment * self._rows.segment
        scales = [
            self._w.scales(panel, start // self._w.block, self._elements.step)
            for panel in tile.panels
        ]
        firsts = [self._starts(m, segment, 0) for m in tile.rows]
        sums = [first for _ in tile.panels for of_row in firsts for first in of_row]
        quads = _Quads(self, tile, start, scales, decoding)
        sums = self._tile_products(tile, start, length, quads, sums)
        count, following = self._elements.operands, []
        for index, total in enumerate(totals):
            panel, row = divmod(index, len(tile.rows))
            of_row, m = [sums[index * count : (index + 1) * count]], tile.rows[row]
            values = self._values(m, segment, of_row, scales[panel])
            following.append(self._scaled(values, m, start, scales[panel], total))
        return following

    def _tile_products(
        self, tile: Tile, start: Val, length: int, quads: _Quads, sums: Sequence[Val]
    ) -> list[Val]:
        """`sums` by panel, row and operand + the products over `length` k from `start` on."""
        xs = [self._codes.at(m * self._rows.pitch + start) for m in tile.rows]

        def add(k: Val | int, count: int, sums: Sequence[Val]) -> list[Val]:
            running = [self._unit.sum(held) for held in sums]
            of_word = quads.read(k, count)
            for position in range(0, count, WORD):
                operands = of_word(position)
                for i, x in enumerate(xs):
                    word = x.at(k).at(position).as_type(i32()).load(align=1)
                    lane = broadcast(word, PANEL_ROWS)
                    for j, of_panel in enumerate(operands):
                        for place, quad in enumerate(of_panel):
                            slot = (j * len(xs) + i) * len(of_panel) + place
                            running[slot].add(quad, lane)
            return [one.value() for one in running]

        done = 0
        if length > UNROLLED:
            done = length // STRIDE * STRIDE
            sums = repeat(0, done, STRIDE, carry=sums)(lambda k, *held: add(k, STRIDE, held))
        sums = add(done, length - done, sums) if length > done else sums
        return self._unit.by_table(sums)

    @property
    def operands(self) -> int:
        return self._elements.operands


class _Quads:
    """Reads of the operands of one segment, for all panels of a tile."""

    def __init__(
        self,
        sums: TiledSums,
        tile: Tile,
        start: Val,
        scales: Sequence[BlockScales],
        decoding: Decoding,
    ) -> None:
        self._sums, self._tile, self._start, self._decoding = sums, tile, start, decoding
        self._shifts = [] if decoding.kept else [sums.shift(each) for each in scales]

    def read(self, k: Val | int, count: int) -> Callable[[int], list[list[Val]]]:
        """position → for each panel the operands of four k from k + position."""
        held, word = self._decoding.held, (self._start + k) // WORD
        if self._decoding.kept:
            assert held is not None
            return lambda at: [
                [held.at(panel, place, self._sums.operands, word, at // WORD).load(wide(i32()))
                 for place in range(self._sums.operands)]
                for panel in range(len(self._tile.panels))
            ]  # fmt: skip
        panels = self._tile.panels
        ahead = self._sums.behind(len(panels))
        fresh = [
            self._sums.quads(panel, self._start + k, count, shift, ahead)
            for panel, shift in zip(panels, self._shifts, strict=True)
        ]

        def made(at: int) -> list[list[Val]]:
            found = [quads(at) for quads in fresh]
            if held is not None:
                for panel, of_panel in enumerate(found):
                    for place, quad in enumerate(of_panel):
                        held.at(panel, place, len(of_panel), word, at // WORD).store(quad)
            return found

        return made

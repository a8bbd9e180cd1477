"""
Products of decoded weights with many rows of fp32 x, in register tiles.

Weights come from a source that writes part of a panel, sixteen channels wide, as fp32 to a
scratch: out of packed panels (panel_decode.py) or out of plain rows (plain_panels.py). A unit of
work fills its panels for `depth` values of k, and runs its tiles over them; sums of parts of k
before wait in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...dialects.cpu.schedule import LinearSchedule
from ...dialects.formats.panels import PANEL_ROWS
from .emit import (
    Ptr,
    Val,
    branch,
    branch_values,
    broadcast,
    constant,
    f32,
    fma,
    minimum,
    repeat,
    select,
    size,
)
from .library import scratch
from .panel_codes import wide
from .panel_output import Columns
from .panel_streams import FEW_PANELS

Fill = Callable[[Val, tuple[Val, int], Ptr], None]
"""Write (first, length) of k of a panel to an address, [length][16]."""
Later = Val | bool
"""Whether sums of parts of k before wait in the result."""


def units_of_work(schedule: LinearSchedule, panels: int, m: Val, few: int) -> Val:
    """The total of a launcher whose units are those of `schedule` for more than `few` rows."""
    tasks = (m + (schedule.task_rows - 1)) // schedule.task_rows
    many = tasks * -(-panels // schedule.task_panels)
    # None for no rows, of which there is no last one to repeat.
    return select(m.compare("le", few), minimum(m, 1) * -(-panels // FEW_PANELS), many)


def each_unit(
    schedule: LinearSchedule,
    panels: int,
    m: Val,
    span: tuple[Val, Val],
    visit: Callable[[tuple[Val, Val], tuple[Val, Val]], None],
) -> None:
    """`visit(panels, rows)`, both from and to, for a launcher's share of units of many rows."""
    x_tiles = (m + (schedule.task_rows - 1)) // schedule.task_rows

    @repeat(*span)
    def _(unit: Val) -> None:
        first = (unit // x_tiles) * schedule.task_panels
        start = unit % x_tiles * schedule.task_rows
        visit(
            (first, minimum(first + schedule.task_panels, panels)),
            (start, minimum(start + schedule.task_rows, m)),
        )


@dataclass(frozen=True, slots=True)
class FloatTiles:
    """Emission of the tiles of y [m, 16 panels] = x [m, k] times weights + bias."""

    schedule: LinearSchedule
    k: int
    panels: int
    m: Val
    x: Ptr
    y: Columns
    bias: Columns
    fill: Fill

    def run(self, begin: Val, end: Val) -> None:
        depth = min(self.schedule.depth, self.k)
        room = scratch(self.schedule.task_panels * PANEL_ROWS * depth)

        def unit(panels: tuple[Val, Val], rows: tuple[Val, Val]) -> None:
            self._each_part(lambda part, later: self._part(panels, rows, part, room, later))

        each_unit(self.schedule, self.panels, self.m, (begin, end), unit)

    def _each_part(self, visit: Callable[[tuple[Val, int], Later], None]) -> None:
        """`visit((first k, length), whether another came before)` in order."""
        step = self.schedule.depth
        whole, rest = divmod(self.k, step)
        if whole == 1:
            visit((size(0), step), False)
        elif whole:
            repeat(0, whole * step, step)(lambda k: visit((k, step), k.compare("gt", 0)))
        if rest:
            visit((size(whole * step), rest), whole > 0)

    def _part(
        self,
        panels: tuple[Val, Val],
        rows: tuple[Val, Val],
        part: tuple[Val, int],
        room: Ptr,
        later: Later,
    ) -> None:
        pitch, (first, last) = part[1] * PANEL_ROWS, panels

        @repeat(first, last)
        def _(panel: Val) -> None:
            self.fill(panel, part, room.at((panel - first) * pitch))

        @repeat(*rows, self.schedule.rows)
        def _(m: Val) -> None:
            ms = [minimum(m + i, self.m - 1) for i in range(self.schedule.rows)]
            self._row_of_tiles(ms, panels, part, room, later)

    def _row_of_tiles(
        self,
        ms: list[Val],
        panels: tuple[Val, Val],
        part: tuple[Val, int],
        room: Ptr,
        later: Later,
    ) -> None:
        """Tiles of whole panels, then the panels that are left, one by one."""
        (first, last), width = panels, self.schedule.panels
        whole = first + (last - first) // width * width
        pitch = part[1] * PANEL_ROWS

        def tile(panel: Val, count: int) -> None:
            columns = [room.at((panel - first + i) * pitch) for i in range(count)]
            self._tile(ms, [panel + i for i in range(count)], columns, part, later)

        if self.schedule.task_panels == width:
            branch(whole.compare("gt", first), lambda: tile(first, width))
        else:
            repeat(first, whole, width)(lambda panel: tile(panel, width))
        if width > 1 and self.panels % width:
            repeat(whole, last)(lambda panel: tile(panel, 1))

    def _tile(
        self,
        ms: list[Val],
        panels: list[Val],
        columns: list[Ptr],
        part: tuple[Val, int],
        later: Later,
    ) -> None:
        """Rows past the end repeat the last one, and store the same."""
        places = [(row, panel) for row in ms for panel in panels]
        initial = self._initial(places, later)
        xs = [self.x.at(row * self.k + part[0]) for row in ms]
        sums = _products(xs, columns, part[1], initial)
        for (row, panel), total in zip(places, sums, strict=True):
            self.y.store(row, panel, total)

    def _initial(self, places: list[tuple[Val, Val]], later: Later) -> list[Val]:
        def before() -> list[Val]:
            return [self.y.sixteen(row, panel) for row, panel in places]

        def biases() -> list[Val]:
            return [self.bias.sixteen(size(0), panel) for _, panel in places]

        if isinstance(later, bool):
            return before() if later else biases()
        return branch_values(later, [constant(0, wide(f32()))] * len(places), before, biases)


def _products(xs: list[Ptr], columns: list[Ptr], length: int, initial: Sequence[Val]) -> list[Val]:
    """`initial` + the sums over `length` k for each row of x and each decoded panel."""

    @repeat(0, length, carry=initial)
    def sums(k: Val, *sums: Val) -> list[Val]:
        ws = [column.at(k * PANEL_ROWS).load(wide(f32())) for column in columns]
        factors = [broadcast(x.at(k).load(), PANEL_ROWS) for x in xs]
        pairs = [(factor, w) for factor in factors for w in ws]
        return [fma(factor, w, total) for (factor, w), total in zip(pairs, sums, strict=True)]

    return sums

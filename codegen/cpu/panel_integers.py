"""
Linear layers on integers: weights in panels whose elements are integers up to a factor, times
rows of activations rounded to integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from ...dialects.cpu.schedule import LinearSchedule
from .emit import Val, branch, f32, minimum, repeat, size
from .integer_elements import integer_elements
from .integer_rows import IntegerRows
from .integer_sums import ROW_ARGUMENTS, sums_fit
from .integer_tiles import Bytes, Decoding, Tile, TiledSums
from .library import Arguments, KernelLibrary
from .lookups import Lookups
from .panel_output import Columns
from .panel_reader import PanelReader
from .panel_streams import LOOKED_UP, each_group
from .panel_tiles import each_unit

FEW_ROWS = 4


def integer_segment(weight: PanelReader, x_block: int, x_blocks: int) -> int | None:
    """Values of k summed as integers: inside one block of both sides; None if blocks cross."""
    small, large = sorted([(weight.block, weight.blocks), (x_block, x_blocks)])
    if (large[1] > 1 and large[0] % small[0]) or (small[1] > 1 and small[0] % weight.unit):
        return None
    elements = integer_elements(weight.format, weight.k)
    assert elements is not None
    return small[0] if sums_fit(elements, small[0], digits=1) else None


@dataclass(frozen=True, slots=True)
class IntegerMeeting:
    """Static facts of a layer: its weights, its rows of x and how they are met, and the bias."""

    weight: PanelReader
    rows: IntegerRows
    found: Lookups | None
    schedule: LinearSchedule
    has_bias: bool

    @property
    def key(self) -> str:
        weight, by = self.weight, self.rows.key if self.found is None else self.found.key
        sizes = f"{weight.rows}x{weight.k} {weight.key}"
        return f"integer linear {sizes} by {by} bias={self.has_bias} {self.schedule}"


def integer_linear_launcher(library: KernelLibrary, meeting: IntegerMeeting) -> str:
    """
    Arguments: codes, scales and sums of x (integer_rows.py), tables of its only row where products
    are looked up, y, bias (0 when absent), m, then the weight's parts; total is `units_of_work`.
    """
    first = ROW_ARGUMENTS + (meeting.found is not None)

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        linear = _IntegerLinear(library, meeting, arguments, first)
        if meeting.found is None:
            linear.run(begin, end)
        else:
            one = linear.m.compare("eq", 1)
            branch(one, lambda: linear.look_up(begin, end), lambda: linear.run(begin, end))

    return library.launcher(meeting.key, first + 3 + meeting.weight.part_count, emit)


class _IntegerLinear:
    """Emission of one layer's body; y is the argument number `first`."""

    def __init__(
        self, library: KernelLibrary, meeting: IntegerMeeting, arguments: Arguments, first: int
    ) -> None:
        weight = meeting.weight
        self.w, self.s = weight, meeting.schedule
        self.sums = TiledSums(library, weight, meeting.rows, arguments, 0, meeting.found)
        self.y = Columns(arguments.address(first, f32()), weight.rows)
        bias = arguments.address(first + 1, f32())
        self.bias = Columns(bias, weight.rows, present=meeting.has_bias)
        self.m = arguments.integer(first + 2)
        weight.bind(arguments, first + 3)

    def run(self, begin: Val, end: Val) -> None:
        def many_rows() -> None:
            room = self.sums.room(self.s.panels) if self.s.keep else None
            each_unit(
                self.s, self.w.panels, self.m, (begin, end),
                lambda panels, rows: self._in_tiles(panels, rows, room),
            )  # fmt: skip

        few = self.m.compare("le", FEW_ROWS)
        branch(few, lambda: self._few_rows(begin, end), many_rows)

    def _few_rows(self, begin: Val, end: Val) -> None:
        one = self.m.compare("eq", 1)
        span, streams = (begin, end), self.sums.streams
        branch(
            one,
            lambda: each_group(self.w.panels, span, streams, lambda some: self._rows(some, 1)),
            lambda: each_group(self.w.panels, span, 1, lambda some: self._rows(some, FEW_ROWS)),
        )

    def look_up(self, begin: Val, end: Val) -> None:
        """The only row, by its tables."""

        def look_up(panels: list[Val]) -> None:
            biases = [self.bias.sixteen(size(0), panel) for panel in panels]
            totals = self.sums.looked_up(panels, size(0), biases)
            for panel, total in zip(panels, totals, strict=True):
                self.y.store(size(0), panel, total)

        each_group(self.w.panels, (begin, end), LOOKED_UP, look_up)

    def _rows(self, panels: list[Val], count: int) -> None:
        """Rows past the end repeat the last one, and store the same."""
        ms = [minimum(size(i), self.m - 1) for i in range(count)]
        biases = [self.bias.sixteen(size(0), panel) for panel in panels for _ in ms]
        totals = self.sums.totals(panels, ms, biases)
        for (panel, row), total in zip(product(panels, ms), totals, strict=True):
            self.y.store(row, panel, total)

    def _in_tiles(self, panels: tuple[Val, Val], rows: tuple[Val, Val], room: Bytes | None) -> None:
        """Rows and panels past the end repeat the last one, and store the same."""

        @repeat(*panels, self.s.panels)
        def _(panel: Val) -> None:
            some = [minimum(panel + i, self.w.panels - 1) for i in range(self.s.panels)]
            biases = [self.bias.sixteen(size(0), each) for each in some]

            def tile(m: Val, decoding: Decoding) -> None:
                ms = [minimum(m + i, self.m - 1) for i in range(self.s.rows)]
                totals = self.sums.tile(Tile(some, ms), biases, decoding)
                for each, of_panel in zip(some, totals, strict=True):
                    for row, total in zip(ms, of_panel, strict=True):
                        self.y.store(row, each, total)

            start, stop = rows
            if room is not None:
                tile(start, Decoding(room))
                start = start + self.s.rows
            kept = Decoding(room, kept=room is not None)
            repeat(start, stop, self.s.rows)(lambda m: tile(m, kept))

"""
Convolutions of fp32 images as products of weight panels: a lane is an output channel.

Neighbouring output columns times a few panels of sixteen channels stay in registers. Under a row
of taps, a value of x is broadcast once and meets every tap that some column of the tile reads it
under. Weights are turned into panels once a call, in their own order of k. A window of one value
sees an image as one long row. At the end a tile is turned round, so that the columns of each
channel lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...dialects.formats.panels import PANEL_ROWS
from .channel_columns import store_columns
from .conv_epilogue import PLAIN, Epilogue, Finish
from .emit import LANES, Ptr, Val, broadcast, f32, fma, lane_mask, maximum, minimum, repeat, size
from .library import Arguments, KernelLibrary, scratch
from .panel_codes import wide
from .panel_output import Columns
from .plain_panels import panel_of_rows
from .source_rows import Part, Source, decode_rows, each_part, padded
from .window import Window, tile_columns

COLUMNS = LANES
STRIP = 128
"""Output columns of a unit of work, at most: it has whole tiles."""
DEPTH = 1024
"""Of k, at most: sixteen rows of it are decoded at a time."""


@dataclass(frozen=True, slots=True)
class PanelConvolution:
    """Static facts: the geometry, the columns and panels of a tile, and what is known of y."""

    window: Window
    has_bias: bool
    columns: int
    tile_panels: int
    one_row: bool
    reads_in_place: bool
    epilogue: Epilogue = PLAIN

    @classmethod
    def of(
        cls,
        library: KernelLibrary,
        window: Window,
        has_bias: bool,
        known: tuple[int | None, int | None],
        epilogue: Epilogue = PLAIN,
    ) -> PanelConvolution:
        """`known` are the output rows and columns, None where they are not."""
        rows, columns = known
        plain = window.padding == (0, 0)
        pointwise = plain and window.taps == (1, 1) and window.stride == (1, 1)
        one_row = pointwise and rows is not None and columns is not None
        if rows is not None and columns is not None and one_row:
            columns = rows * columns
        registers = "avx512vl" in library.features
        return cls(
            window,
            has_bias,
            columns=tile_columns(COLUMNS if registers else 4, columns),
            tile_panels=_tile_panels(window) if registers else 1,
            one_row=one_row,
            reads_in_place=plain and columns is not None,
            epilogue=epilogue,
        )

    @property
    def group_panels(self) -> int:
        return -(-self.window.outputs // PANEL_ROWS)

    @property
    def panels(self) -> int:
        return self.window.groups * self.group_panels

    @property
    def group_tiles(self) -> int:
        return -(-self.group_panels // self.tile_panels)

    @property
    def tiles(self) -> int:
        return self.window.groups * self.group_tiles

    @property
    def strip(self) -> int:
        return STRIP // self.columns * self.columns

    @property
    def reach(self) -> int:
        """Columns of x that a tile reads."""
        w = self.window
        return (self.columns - 1) * w.stride[1] + (w.taps[1] - 1) * w.dilation[1] + 1

    @property
    def key(self) -> str:
        return f"{self}"

    def seen(self, rows: Val, columns: Val) -> tuple[Val, Val]:
        """Rows and columns as the kernel walks over them."""
        return (size(1), rows * columns) if self.one_row else (rows, columns)

    def strips(self, out_rows: Val, out_columns: Val) -> Val:
        """Units of work of one image and one tile of panels."""
        rows, columns = self.seen(out_rows, out_columns)
        return rows * ((columns + (self.strip - 1)) // self.strip)

    def launcher(self, library: KernelLibrary) -> str:
        """
        Arguments: x or its padded copy, y, bias (0 when absent), panels, images, rows, columns,
        floats from row to row of x, arrays of the epilogue; total is tiles of panels times images
        times strips.
        """

        def emit(arguments: Arguments, begin: Val, end: Val) -> None:
            _Body(self, arguments).run(begin, end)

        return library.launcher(self.key, 8 + self.epilogue.arrays, emit)


def _tile_panels(window: Window) -> int:
    """Of 32 registers, as many panels as leave none of them empty."""
    panels = -(-window.outputs // PANEL_ROWS)
    if panels % 3 == 0 and window.taps[1] == 1:
        return 3
    return min(2, panels)


def panels_launcher(library: KernelLibrary, window: Window, weight: Source) -> str:
    """
    Writes panels [panels][k][16] of the rows of each group, the last row of a group repeated.

    Arguments: panels, then the weight's parts; total is the number of panels.
    """
    of_group = -(-window.outputs // PANEL_ROWS)

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        target = arguments.address(0, f32())
        weight.bind(arguments, 1)
        rows = scratch(PANEL_ROWS * DEPTH)

        @repeat(begin, end)
        def _(panel: Val) -> None:
            first, last = panel % of_group * PANEL_ROWS, window.outputs - 1

            def turn(part: Part) -> None:
                pitch = padded(part.length)

                @repeat(0, PANEL_ROWS)
                def _(row: Val) -> None:
                    chosen = panel // of_group * window.outputs + minimum(first + row, last)
                    decode_rows(weight, [chosen], rows.at(row * pitch), part)

                panel_of_rows(
                    lambda row: rows.at(row * pitch),
                    (size(0), part.length),
                    target.at((panel * window.k + part.first) * PANEL_ROWS),
                )

            each_part(weight, DEPTH, turn)

    return library.launcher(f"panels {window.key} {weight.key}", 1 + weight.part_count, emit)


class _Body:
    """Emission of the convolution of strips."""

    def __init__(self, c: PanelConvolution, arguments: Arguments) -> None:
        self.c, self.w = c, c.window
        self.x, self.y, self.bias, self.panels = (arguments.address(i, f32()) for i in range(4))
        self.images, rows, columns, self.pitch = (arguments.integer(i) for i in range(4, 8))
        out_rows, out_columns = self.w.output(rows, 0), self.w.output(columns, 1)
        self.out_rows, self.out_columns = c.seen(out_rows, out_columns)
        self.plane = (rows + 2 * self.w.padding[0]) * self.pitch
        self.finish = Finish(c.epilogue, arguments, 8)

    def run(self, begin: Val, end: Val) -> None:
        in_row = (self.out_columns + (self.c.strip - 1)) // self.c.strip
        in_image = in_row * self.out_rows

        @repeat(begin, end)
        def _(unit: Val) -> None:
            tile, rest = unit // (self.images * in_image), unit % (self.images * in_image)
            image, place = rest // in_image, rest % in_image
            row, strip = place // in_row, place % in_row
            self._strip(tile, image, row, strip * self.c.strip)

    def _strip(self, tile: Val, image: Val, row: Val, start: Val) -> None:
        group, first = (
            tile // self.c.group_tiles,
            tile % self.c.group_tiles * self.c.tile_panels,
        )
        inside = [minimum(first + i, self.c.group_panels - 1) for i in range(self.c.tile_panels)]
        weights = [
            self.panels.at((group * self.c.group_panels + panel) * (self.w.k * PANEL_ROWS))
            for panel in inside
        ]
        bias = Columns(self.bias.at(group * self.w.outputs), self.w.outputs, self.c.has_bias)
        biases = [bias.sixteen(size(0), panel) for panel in inside]
        initial = [value for value in biases for _ in range(self.c.columns)]
        held = [self._of_channels(group, panel) for panel in inside]
        planes = (image * self.w.groups + group) * self.w.channels
        source = self.x.at(planes * self.plane + row * self.w.stride[0] * self.pitch)
        stop = minimum(start + self.c.strip, self.out_columns)

        @repeat(start, stop, self.c.columns)
        def _(column: Val) -> None:
            # The last tile of a row begins earlier where it can, and writes some columns again.
            column = maximum(minimum(column, self.out_columns - self.c.columns), size(0))
            sums = self._taps(source.at(column * self.w.stride[1]), weights, initial)
            for index, panel in enumerate(inside):
                values = sums[index * self.c.columns : (index + 1) * self.c.columns]
                first = (image * self.w.groups + group) * self.w.outputs + panel * PANEL_ROWS
                place = (first * self.out_rows + row) * self.out_columns + column
                self._store(place, panel, column, values, held[index])

    def _of_channels(self, group: Val, panel: Val) -> dict[int, Val]:
        outputs = self.w.outputs
        return self.finish.of_channels(
            lambda array: Columns(array.at(group * outputs), outputs).sixteen(size(0), panel)
        )

    def _store(
        self, place: Val, panel: Val, column: Val, sums: Sequence[Val], held: dict[int, Val]
    ) -> None:
        outputs = self.w.outputs
        channels = None if outputs % PANEL_ROWS == 0 else size(outputs) - panel * PANEL_ROWS
        mask = lane_mask(minimum(self.out_columns - column, self.c.columns))
        values = [self.finish.of_sums(held, one) for one in sums]

        def finished(offset: Val, value: Val) -> Val:
            at = place + offset
            return self.finish.of_images(held, value, lambda array: array.at(at).load_while(mask))

        pitch = self.out_rows * self.out_columns
        store_columns(self.y.at(place), pitch, channels, mask, values, finished)

    def _taps(self, source: Ptr, weights: Sequence[Ptr], initial: Sequence[Val]) -> list[Val]:
        """initial + the products of all taps and channels with the columns from `source`."""
        tap_rows, tap_columns = self.w.taps

        @repeat(0, self.w.channels, carry=initial)
        def totals(channel: Val, *sums: Val) -> Sequence[Val]:
            def row_of_taps(row: Val, *sums: Val) -> list[Val]:
                line = source.at(channel * self.plane + row * self.w.dilation[0] * self.pitch)
                first = (channel * tap_rows + row) * (tap_columns * PANEL_ROWS)
                return self._row_of_taps(line, [panel.at(first) for panel in weights], sums)

            if tap_rows == 1:
                return row_of_taps(size(0), *sums)
            return repeat(0, tap_rows, carry=sums)(row_of_taps)

        return totals

    def _row_of_taps(self, line: Ptr, weights: Sequence[Ptr], sums: Sequence[Val]) -> list[Val]:
        sums = list(sums)
        taps = [
            [panel.at(tap * PANEL_ROWS).load(wide(f32())) for panel in weights]
            for tap in range(self.w.taps[1])
        ]
        meetings: dict[int, list[tuple[int, int]]] = {}
        for column in range(self.c.columns):
            for tap in range(self.w.taps[1]):
                offset = column * self.w.stride[1] + tap * self.w.dilation[1]
                meetings.setdefault(offset, []).append((column, tap))
        for offset, pairs in sorted(meetings.items()):
            x = broadcast(line.at(offset).load(), PANEL_ROWS)
            for column, tap in pairs:
                for index, weight in enumerate(taps[tap]):
                    at = index * self.c.columns + column
                    sums[at] = fma(x, weight, sums[at])
        return sums

"""
Convolutions with few output channels a group, such as depthwise ones: a lane is an output column.

The input is a padded copy with its columns split by phase (padded_copy.py), so that the inputs of
neighbouring output columns are neighbours in memory for every stride. Up to `CHANNELS` output
channels times a few vectors of output columns stay in registers; weights of those channels are
decoded once per tile of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...dialects.formats.panels import PANEL_ROWS
from .emit import Ptr, Val, branch, broadcast, constant, f32, fma, lane_mask, minimum, repeat, size
from .library import Arguments, KernelLibrary, fits_scratch, scratch
from .panel_codes import wide
from .source_rows import Source, decode_rows, padded
from .window import Window

CHANNELS = 4
LANES = PANEL_ROWS
SUMS = 6
"""In registers: few enough for sixteen registers of half a vector each."""


@dataclass(frozen=True, slots=True)
class ColumnConvolution:
    """Static facts; `out_columns` is None where it is not known."""

    window: Window
    weight: Source
    has_bias: bool
    out_columns: int | None

    @staticmethod
    def fits(window: Window) -> bool:
        """Whether the decoded weights of a tile do."""
        return fits_scratch(_tile_channels(window) * padded(window.k))

    @property
    def channels(self) -> int:
        """Output channels of a tile."""
        return _tile_channels(self.window)

    @property
    def channel_tiles(self) -> int:
        return -(-self.window.outputs // self.channels)

    @property
    def vectors(self) -> int:
        """Of output columns of a tile: as many as there is room for, and few that lie outside."""
        most = SUMS // self.channels
        if self.out_columns is None:
            return most
        needed = max(1, -(-self.out_columns // LANES))
        return -(-needed // -(-needed // most))

    @property
    def key(self) -> str:
        return f"conv {self.window.key} {self.weight.key} {self.has_bias} {self.vectors}"

    def phase_width(self, columns: Val) -> Val:
        """Floats of one phase of a padded row, with room to read past the end."""
        stride = self.window.stride[1]
        padded_columns = columns + (2 * self.window.padding[1] + stride - 1)
        return padded_columns // stride + self.vectors * LANES

    def launcher(self, library: KernelLibrary) -> str:
        """
        Arguments: copy, y, bias (0 when absent), rows, columns, width of a phase, the weight's
        parts; total is images times groups times channel tiles times output rows.
        """

        def emit(arguments: Arguments, begin: Val, end: Val) -> None:
            _Body(self, arguments).run(begin, end)

        return library.launcher(self.key, 6 + self.weight.part_count, emit)


def _tile_channels(window: Window) -> int:
    return min(CHANNELS, window.outputs)


class _Body:
    """Emission of the convolution of output rows."""

    def __init__(self, c: ColumnConvolution, arguments: Arguments) -> None:
        self.c, self.w = c, c.window
        self.copy, self.y, self.bias = (arguments.address(index, f32()) for index in range(3))
        rows, columns, self.width = (arguments.integer(index) for index in range(3, 6))
        c.weight.bind(arguments, 6)
        self.padded_rows = rows + 2 * self.w.padding[0]
        self.out_rows, self.out_columns = self.w.output(rows, 0), self.w.output(columns, 1)

    def run(self, begin: Val, end: Val) -> None:
        weights = scratch(self.c.channels * padded(self.w.k))

        @repeat(begin, end, carry=(size(-1),))
        def _(item: Val, held: Val) -> Val:
            block, row = item // self.out_rows, item % self.out_rows
            tiles = self.w.groups * self.c.channel_tiles
            image, tile = block // tiles, block % tiles
            group, first = (
                tile // self.c.channel_tiles,
                (tile % self.c.channel_tiles) * self.c.channels,
            )
            outputs = [
                group * self.w.outputs + minimum(first + j, self.w.outputs - 1)
                for j in range(self.c.channels)
            ]
            changed = tile.compare("ne", held)
            branch(changed, lambda: decode_rows(self.c.weight, outputs, weights))
            self._row(image, group, outputs, row, weights)
            return tile

    def _row(self, image: Val, group: Val, outputs: list[Val], row: Val, weights: Ptr) -> None:
        first_plane = (image * self.w.groups + group) * self.w.channels
        all_outputs = self.w.groups * self.w.outputs
        targets = [
            self.y.at(((image * all_outputs + output) * self.out_rows + row) * self.out_columns)
            for output in outputs
        ]
        start = [
            broadcast(self.bias.at(output).load(), LANES)
            if self.c.has_bias
            else constant(0, wide(f32()))
            for output in outputs
        ]

        @repeat(0, self.out_columns, self.c.vectors * LANES)
        def _(column: Val) -> None:
            carry = [value for value in start for _ in range(self.c.vectors)]

            @repeat(0, self.w.channels, carry=carry)
            def sums(channel: Val, *sums: Val) -> list[Val]:
                lines = (first_plane + channel) * self.padded_rows * self.w.stride[1]
                return self._taps(
                    self.copy.at(lines * self.width), row, column, channel, weights, list(sums)
                )

            for j, target in enumerate(targets):
                for v in range(self.c.vectors):
                    position = column + v * LANES
                    mask = lane_mask(self.out_columns - position, LANES)
                    target.at(position).store_while(mask, sums[j * self.c.vectors + v])

    def _taps(
        self, plane: Ptr, row: Val, column: Val, channel: Val, weights: Ptr, sums: list[Val]
    ) -> list[Val]:
        """Add the contributions of all taps of one input channel."""
        tap_rows, tap_columns = self.w.taps
        stride = self.w.stride[1]

        @repeat(0, tap_rows, carry=sums)
        def totals(i: Val, *carried: Val) -> list[Val]:
            sums = list(carried)
            line = row * self.w.stride[0] + i * self.w.dilation[0]
            first_tap = (channel * tap_rows + i) * tap_columns
            for j in range(tap_columns):
                phase, offset = j * self.w.dilation[1] % stride, j * self.w.dilation[1] // stride
                source = plane.at((line * stride + phase) * self.width + column + offset)
                xs = [source.at(v * LANES).load(wide(f32())) for v in range(self.c.vectors)]
                for c in range(self.c.channels):
                    tap = weights.at(first_tap + (c * padded(self.w.k) + j)).load()
                    factor = broadcast(tap, LANES)
                    for v, x in enumerate(xs):
                        at = c * self.c.vectors + v
                        sums[at] = fma(factor, x, sums[at])
            return sums

        return totals

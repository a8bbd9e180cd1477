"""
The conv2d kernel: direct convolution over a padded copy of the input.

The copy has zero borders and its columns split by phase (column mod stride), so that the inputs
of neighbouring output columns are neighbours in memory for every stride. The kernel keeps
`CHANNELS` output channels times a few vectors of output columns in registers and walks over the
input channels and the taps; weights of those channels are decoded once per tile of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...dialects import qcc
from ...dialects.bindings import ir
from .call_site import CallSite, replace_op
from .emit import (
    LANES,
    Ptr,
    Val,
    branch,
    broadcast,
    f32,
    floats,
    fma,
    lane_mask,
    minimum,
    repeat,
    scalar,
    select,
    size,
    splat,
)
from .gemm import Source, decode_rows, padded
from .library import Arguments, KernelLibrary, grain_of, scratch
from .weights import weight_source

CHANNELS = 4
COLUMN_VECTORS = 2
SLACK = COLUMN_VECTORS * LANES


@dataclass(frozen=True, slots=True)
class Window:
    """The static geometry of a convolution; pairs are (rows, columns)."""

    channels: int  # input channels of a group
    outputs: int  # output channels of a group
    taps: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def key(self) -> str:
        return repr(self)

    @property
    def k(self) -> int:
        return self.channels * self.taps[0] * self.taps[1]

    @property
    def channel_tiles(self) -> int:
        return -(-self.outputs // CHANNELS)

    def padded_rows(self, rows: Val) -> Val:
        return rows + 2 * self.padding[0]

    def phase_width(self, columns: Val) -> Val:
        """Floats of one phase of a padded row, with room to read past the end."""
        stride = self.stride[1]
        return (columns + (2 * self.padding[1] + stride - 1)) // stride + SLACK

    def output(self, extent: Val, axis: int) -> Val:
        reach = self.dilation[axis] * (self.taps[axis] - 1) + 1
        return (extent + (2 * self.padding[axis] - reach)) // self.stride[axis] + 1


def padding_launcher(library: KernelLibrary, window: Window) -> str:
    """Arguments: x, copy, rows, columns; total is batch * channels * padded rows."""
    stride, top, left = window.stride[1], window.padding[0], window.padding[1]

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        x, copy = (arguments.address(index, f32()) for index in range(2))
        rows, columns = arguments.integer(2), arguments.integer(3)
        padded_rows, width = window.padded_rows(rows), window.phase_width(columns)

        @repeat(begin, end)
        def _(line: Val) -> None:
            plane, row = line // padded_rows, line % padded_rows
            source = x.at((plane * rows + row - top) * columns)
            inside_row = row.compare("ge", top) & row.compare("lt", rows + top)
            available = select(inside_row, columns, size(0))
            for phase in range(stride):
                target = copy.at((line * stride + phase) * width)

                @repeat(0, width)
                def _(position: Val, phase: int = phase, target: Ptr = target) -> None:
                    column = position * stride + (phase - left)
                    inside = column.compare("ge", 0) & column.compare("lt", available)
                    target.at(position).store(scalar(0.0))
                    branch(
                        inside,
                        lambda: target.at(position).store(source.at(column).load()),
                    )

    return library.launcher(f"pad {stride} {top} {left}", 4, emit)


def convolution_launcher(
    library: KernelLibrary, window: Window, weight: Source, has_bias: bool
) -> str:
    """
    Arguments: copy, y, bias, rows, columns, then the weight's parts.

    total is batch * groups * channel tiles * output rows.
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        _Body(window, weight, has_bias, arguments).run(begin, end)

    return library.launcher(
        f"conv {window.key} {weight.key} {has_bias}", 5 + weight.part_count, emit
    )


class _Body:
    """Emission of the convolution body."""

    def __init__(
        self, window: Window, weight: Source, has_bias: bool, arguments: Arguments
    ) -> None:
        self.w, self.weight, self.has_bias = window, weight, has_bias
        self.copy, self.y, self.bias = (arguments.address(index, f32()) for index in range(3))
        rows, columns = arguments.integer(3), arguments.integer(4)
        weight.bind(arguments, 5)
        self.padded_rows, self.width = window.padded_rows(rows), window.phase_width(columns)
        self.out_rows, self.out_columns = window.output(rows, 0), window.output(columns, 1)

    def run(self, begin: Val, end: Val) -> None:
        weights = scratch(CHANNELS * padded(self.w.k))

        @repeat(begin, end, carry=(size(-1),))
        def _(tile: Val, held: Val) -> Val:
            block, row = tile // self.out_rows, tile % self.out_rows
            image, rest = (
                block // (self.w.groups * self.w.channel_tiles),
                block % (self.w.groups * self.w.channel_tiles),
            )
            group, first = rest // self.w.channel_tiles, (rest % self.w.channel_tiles) * CHANNELS
            channels = [minimum(first + j, self.w.outputs - 1) for j in range(CHANNELS)]
            outputs = [group * self.w.outputs + channel for channel in channels]
            branch(rest.compare("ne", held), lambda: decode_rows(self.weight, outputs, weights))
            self._row(image, group, outputs, row, weights)
            return rest

    def _row(self, image: Val, group: Val, outputs: list[Val], row: Val, weights: Ptr) -> None:
        first_plane = (image * self.w.groups + group) * self.w.channels
        targets = [
            self.y.at(
                ((image * (self.w.groups * self.w.outputs) + output) * self.out_rows + row)
                * self.out_columns
            )
            for output in outputs
        ]
        start = [
            broadcast(self.bias.at(output).load()) if self.has_bias else splat(0.0)
            for output in outputs
        ]

        @repeat(0, self.out_columns, SLACK)
        def _(column: Val) -> None:
            carry = [value for value in start for _ in range(COLUMN_VECTORS)]

            @repeat(0, self.w.channels, carry=carry)
            def sums(channel: Val, *sums: Val) -> list[Val]:
                plane = self.copy.at(
                    (first_plane + channel) * self.padded_rows * self.w.stride[1] * self.width
                )
                return self._taps(plane, row, column, channel, weights, list(sums))

            for j, target in enumerate(targets):
                for v in range(COLUMN_VECTORS):
                    position = column + v * LANES
                    mask = lane_mask(self.out_columns - position)
                    target.at(position).store_while(mask, sums[j * COLUMN_VECTORS + v])

    def _taps(
        self, plane: Ptr, row: Val, column: Val, channel: Val, weights: Ptr, sums: list[Val]
    ) -> list[Val]:
        """Add the contributions of all taps of one input channel."""
        tap_rows, tap_columns = self.w.taps
        stride = self.w.stride[1]

        def tap_row(i: Val, sums: list[Val]) -> list[Val]:
            line = row * self.w.stride[0] + i * self.w.dilation[0]
            first_tap = (channel * tap_rows + i) * tap_columns
            for j in range(tap_columns):
                offset = j * self.w.dilation[1]
                source = plane.at(
                    (line * stride + offset % stride) * self.width + column + offset // stride
                )
                xs = [source.at(v * LANES).load(floats()) for v in range(COLUMN_VECTORS)]
                for c in range(CHANNELS):
                    factor = weights.at(first_tap + (c * padded(self.w.k) + j)).load()
                    for v, x in enumerate(xs):
                        at = c * COLUMN_VECTORS + v
                        sums[at] = fma(broadcast(factor), x, sums[at])
            return sums

        @repeat(0, tap_rows, carry=sums)
        def totals(i: Val, *sums: Val) -> list[Val]:
            return tap_row(i, list(sums))

        return totals


def _pair(attribute: ir.Attribute) -> tuple[int, int]:
    rows, columns = ir.DenseI64ArrayAttr(attribute)
    return rows, columns


def window_of(op: qcc.Conv2dOp) -> Window:
    shape = qcc.logical_type(op.weight.type).shape
    groups = ir.IntegerAttr(op.groups).value
    return Window(
        channels=shape[1],
        outputs=shape[0] // groups,
        taps=(shape[2], shape[3]),
        stride=_pair(op.stride),
        padding=_pair(op.padding),
        dilation=_pair(op.dilation),
        groups=groups,
    )


def convert_conv2d(site: CallSite, op: qcc.Conv2dOp) -> None:
    window, outputs = window_of(op), qcc.logical_type(op.weight.type).shape[0]
    batch, channels, rows, columns = (site.extent(op.input, axis) for axis in range(4))
    out_rows, out_columns = window.output(rows, 0), window.output(columns, 1)
    sizes = {0: batch, 1: size(outputs), 2: out_rows, 3: out_columns}
    value, address = site.result(op.result.type, site.dynamic_like(op.result.type, sizes))
    source, parts = weight_source(site, op.weight, window.k)
    bias = site.address(op.bias) if op.bias is not None else size(0)

    lines = batch * channels * window.padded_rows(rows)
    copy = site.buffer(lines * window.stride[1] * window.phase_width(columns))
    pad = padding_launcher(site.library, window)
    site.launch(pad, [site.address(op.input), copy, rows, columns], lines, grain_of(lines))
    convolve = convolution_launcher(site.library, window, source, op.bias is not None)
    total = batch * (window.groups * window.channel_tiles) * out_rows
    site.launch(convolve, [copy, address, bias, rows, columns, *parts], total, grain_of(total))
    replace_op(op, value)

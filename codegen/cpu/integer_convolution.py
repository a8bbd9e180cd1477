"""
Convolutions of images rounded to integers: byte dot products over planes of four channels.

    %q = qcc.quantize %x; %d = qcc.dequantize %q; qcc.conv2d %d, %w
      =>  planes(&x, &bytes, &scales); kernel(&bytes, &scales, &y, &w.codes, …)

A lane holds one output channel. Up to eight neighbouring output columns times a few panels of
channels stay in registers; a word of x, four channels of one pixel, is broadcast to all lanes and
meets the four codes of each output channel under the tap. Sums are exact in int32, as
permute-weights made sure. At the end a tile is turned round, so that the columns of each channel
lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.formats.panels import PANEL_ROWS
from ...dialects.formats.tap_panels import tap_unit
from .byte_dots import ByteSum, SignedUnit
from .byte_planes import CHANNELS, ZERO_POINT, BytePlanes, byte_planes_launcher
from .call_site import CallSite, parameter_symbol
from .channel_columns import store_columns
from .conv_epilogue import Epilogue, Finish, replace_ended, take_ending
from .emit import (
    LANES,
    Ptr,
    Val,
    branch,
    broadcast,
    constant,
    f32,
    fma,
    i32,
    lane_mask,
    minimum,
    repeat,
    signed_to_float,
    size,
)
from .library import Arguments, KernelLibrary, grain_of, scratch
from .panel_codes import UnitCodes, wide
from .panel_output import Columns
from .panel_reader import PanelReader
from .round_trip import known_of_tensor
from .window import Window, static_extent, tile_columns, window_of

COLUMNS = LANES


@dataclass(frozen=True, slots=True)
class _Convolution:
    """Static facts: the geometry, the images, the weights, and the size of a tile."""

    window: Window
    images: BytePlanes
    weight: PanelReader
    has_bias: bool
    columns: int
    most_panels: int
    epilogue: Epilogue

    @property
    def tile_panels(self) -> int:
        of_group = self.weight.panels // self.window.groups
        whole = self.window.groups == 1 or of_group % self.most_panels == 0
        return self.most_panels if whole and self.weight.panels > 1 else 1

    @property
    def tiles(self) -> int:
        """Groups of panels that one row of one image has."""
        return -(-self.weight.panels // self.tile_panels)

    @property
    def group_planes(self) -> int:
        return self.images.planes // self.window.groups

    @property
    def key(self) -> str:
        facts = self.images.key, self.weight.key, self.has_bias, self.columns, self.most_panels
        return f"byte {self.window.key} {facts} {self.epilogue}"


class IntegerConvolutions:
    """Converts the convolutions of one module whose weights lie in panels by tap."""

    def __init__(self) -> None:
        self._planes: dict[tuple[ir.Value, str], tuple[Val, Val]] = {}

    def convert(self, site: CallSite, op: qcc.Conv2dOp) -> None:
        """Replace `op` if its weights lie in panels, else leave it."""
        symbol = parameter_symbol(op.weight)
        if symbol is None or qcc.layout_of(op.weight.owner) is None:
            return
        window, quantize = window_of(op), qcc.rounding_of(op.input)
        weight = _reader(site.library, op)
        images = _images(quantize, window, weight)
        tile = _tile(site.library, static_extent(op.result, 3))
        ending = take_ending(op)
        facts = op.bias is not None, *tile, ending.epilogue
        convolution = _Convolution(window, images, weight, *facts)
        batch, _, rows, columns = (site.extent(quantize.source, axis) for axis in range(4))
        out_rows, out_columns = window.output(rows, 0), window.output(columns, 1)
        sizes = {0: batch, 1: size(weight.rows), 2: out_rows, 3: out_columns}
        value, address = site.result(op.result.type, site.dynamic_like(op.result.type, sizes))
        planes, scales = self._rounded(site, quantize, images)
        bias = site.address(op.bias) if op.bias is not None else size(0)
        parts = [site.parameters.address(f"{symbol}/{role}") for role in weight.parts]
        total = batch * convolution.tiles * out_rows
        work = out_columns * (total * (weight.k * PANEL_ROWS * convolution.tile_panels))
        arrays = [site.address(array) for array in ending.arrays]
        arguments = [planes, scales, address, bias, rows, columns, *parts, *arrays]
        launcher = _launcher(site.library, convolution)
        site.launch(launcher, arguments, total, grain_of(total, work))
        replace_ended(op, ending, value)

    def _rounded(
        self, site: CallSite, quantize: qcc.QuantizeOp, images: BytePlanes
    ) -> tuple[Val, Val]:
        key = quantize.codes, images.key
        if key not in self._planes:
            with ir.InsertionPoint(quantize), quantize.location:
                self._planes[key] = _round(site, quantize, images)
        return self._planes[key]


def _tile(library: KernelLibrary, columns: int | None) -> tuple[int, int]:
    """Columns and panels whose sums the registers hold: 32, or 16 of half a panel each."""
    most, panels = (COLUMNS, 2) if "avx512vl" in library.features else (COLUMNS // 2, 1)
    return tile_columns(most, columns), panels


def _round(site: CallSite, quantize: qcc.QuantizeOp, images: BytePlanes) -> tuple[Val, Val]:
    source = quantize.source
    batch, _, rows, columns = (site.extent(source, axis) for axis in range(4))
    lines = batch * images.rows(rows)
    planes = site.buffer(lines * images.pitch(columns) * images.planes)
    scales = site.buffer(lines)
    known = known_of_tensor(site, quantize, images.rounding)
    launcher = byte_planes_launcher(site.library, images)
    arguments = [site.address(source), planes, scales, rows, columns, known]
    work = lines * columns * (images.channels * 16)
    site.launch(launcher, arguments, lines, grain_of(lines, work))
    return planes, scales


def _reader(library: KernelLibrary, op: qcc.Conv2dOp) -> PanelReader:
    fmt, shape = qcc.format_of(op.weight), qcc.logical_type(op.weight.type).shape
    unit = tap_unit(fmt)
    return PanelReader(library, fmt, shape[0], -(-shape[1] // unit) * unit * shape[2] * shape[3])


def _images(quantize: qcc.QuantizeOp, window: Window, weight: PanelReader) -> BytePlanes:
    return BytePlanes(
        qcc.format_of(quantize.codes),
        channels=window.channels * window.groups,
        unit=tap_unit(weight.format),
        padding=window.padding,
        spare=(COLUMNS - 1) * window.stride[1],
        static=qcc.tensor_range_of(quantize) is not None,
    )


def _launcher(library: KernelLibrary, convolution: _Convolution) -> str:
    """
    Arguments: planes, scales, y, bias (0 when absent), rows, columns, then the weight's parts and
    the epilogue's arrays; total is images times groups of panels times output rows.
    """

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        _Body(library, convolution, arguments).run(begin, end)

    count = 6 + convolution.weight.part_count + convolution.epilogue.arrays
    return library.launcher(convolution.key, count, emit)


class _Body:
    """Emission of the convolution of output rows."""

    def __init__(self, library: KernelLibrary, c: _Convolution, arguments: Arguments) -> None:
        self.c, self.w = c, c.window
        self.planes, self.scales = arguments.address(0, i32()), arguments.address(1, f32())
        self.y = arguments.address(2, f32())
        self.bias = Columns(arguments.address(3, f32()), c.weight.rows, present=c.has_bias)
        rows, columns = arguments.integer(4), arguments.integer(5)
        c.weight.bind(arguments, 6)
        self.finish = Finish(c.epilogue, arguments, 6 + c.weight.part_count)
        self.unit = SignedUnit(library, c.weight.format)
        self.rows, self.pitch = c.images.rows(rows), c.images.pitch(columns)
        self.out_rows, self.out_columns = c.window.output(rows, 0), c.window.output(columns, 1)

    def run(self, begin: Val, end: Val) -> None:
        starts = scratch(self.c.tile_panels * PANEL_ROWS).as_type(i32())

        @repeat(begin, end, carry=(size(-1),))
        def _(item: Val, held: Val) -> Val:
            row, rest = item % self.out_rows, item // self.out_rows
            image, tile = rest // self.c.tiles, rest % self.c.tiles
            panels = [
                minimum(tile * self.c.tile_panels + i, self.c.weight.panels - 1)
                for i in range(self.c.tile_panels)
            ]
            branch(tile.compare("ne", held), lambda: self._store_starts(panels, starts))
            self._row(image, row, panels, starts)
            return tile

    def _store_starts(self, panels: Sequence[Val], starts: Ptr) -> None:
        """What the 128 added to every byte of x adds to the sums, taken away."""
        ones = constant(0x01010101, wide(i32()))
        for index, panel in enumerate(panels):

            @repeat(0, self.c.weight.k // self.c.weight.unit, carry=[constant(0, wide(i32()))])
            def total(unit: Val, total: Val, panel: Val = panel) -> Val:
                codes = self.c.weight.codes(panel, unit)[0]
                running = self.unit.sum(total)
                for position in range(0, self.c.weight.unit, CHANNELS):
                    running.add(ones, self.unit.quad(codes, position))
                return running.value()

            starts.at(index * PANEL_ROWS).store(total[0] * -ZERO_POINT)

    def _row(self, image: Val, row: Val, panels: Sequence[Val], starts: Ptr) -> None:
        top = row * self.w.stride[0]
        scale = self._scale(self.scales.at(image * self.rows + top))
        step = self.unit.step
        factors = [self.c.weight.scales(p, size(0), step).factors[0] * scale for p in panels]
        biases = [self.bias.sixteen(size(0), panel) for panel in panels]
        held = [
            self.finish.of_channels(
                lambda array, panel=panel: Columns(array, self.c.weight.rows).sixteen(
                    size(0), panel
                )
            )
            for panel in panels
        ]
        first_plane = image * self.c.images.planes
        if self.w.groups > 1:
            of_group = self.c.weight.panels // self.w.groups
            first_plane = first_plane + panels[0] // of_group * self.c.group_planes
        source = self.planes.at((first_plane * self.rows + top) * self.pitch)

        @repeat(0, self.out_columns, self.c.columns)
        def _(column: Val) -> None:
            initial = [
                starts.at(index * PANEL_ROWS).load(wide(i32()))
                for index in range(len(panels))
                for _ in range(self.c.columns)
            ]
            sums = self._taps(source.at(column * self.w.stride[1]), panels, initial)
            for index, panel in enumerate(panels):
                of_panel = sums[index * self.c.columns : (index + 1) * self.c.columns]
                values = [
                    fma(signed_to_float(one), factors[index], biases[index]) for one in of_panel
                ]
                values = [self.finish.of_sums(held[index], value) for value in values]
                self._store((image, row, column), panel, values, held[index])

    def _scale(self, of_row: Ptr) -> Val:
        """The tensor's scale; NaN if one of the rows under the window has it so."""
        scale = of_row.load()
        for tap in range(1, self.w.taps[0]):
            other = of_row.at(tap * self.w.dilation[0]).load()
            scale = scale + (other - other)
        return broadcast(scale, PANEL_ROWS)

    def _taps(self, source: Ptr, panels: Sequence[Val], initial: list[Val]) -> list[Val]:
        """initial + the products of all taps and channels with a tile's columns from `source`."""
        units = self.c.group_planes * CHANNELS // self.c.weight.unit

        @repeat(0, self.w.taps[0], carry=initial)
        def totals(row: Val, *sums: Val) -> list[Val]:
            @repeat(0, units, carry=sums)
            def of_row(unit: Val, *sums: Val) -> list[Val]:
                running = [self.unit.sum(total) for total in sums]
                for column in range(self.w.taps[1]):
                    at = (row * self.w.taps[1] + column) * units + unit
                    codes = [self.c.weight.codes(panel, at)[0] for panel in panels]
                    self._under_tap(source, (row, column), unit, codes, running)
                return [one.value() for one in running]

            return of_row

        return totals

    def _under_tap(
        self,
        source: Ptr,
        tap: tuple[Val, int],
        unit: Val,
        codes: Sequence[UnitCodes],
        running: Sequence[ByteSum],
    ) -> None:
        planes = self.c.weight.unit // CHANNELS
        row, column = tap[0] * self.w.dilation[0], tap[1] * self.w.dilation[1]
        for plane in range(planes):
            pixel = source.at(((unit * planes + plane) * self.rows + row) * self.pitch + column)
            quads = [self.unit.quad(each, plane * CHANNELS) for each in codes]
            for place in range(self.c.columns):
                word = broadcast(pixel.at(place * self.w.stride[1]).load(), PANEL_ROWS)
                for index, quad in enumerate(quads):
                    running[index * self.c.columns + place].add(word, quad)

    def _store(
        self, pixel: tuple[Val, Val, Val], panel: Val, values: list[Val], held: dict[int, Val]
    ) -> None:
        """Sixteen channels of a tile's columns, the columns of each side by side."""
        image, row, column = pixel
        rows, first = self.c.weight.rows, panel * PANEL_ROWS
        place = ((image * rows + first) * self.out_rows + row) * self.out_columns + column
        channels = None if rows % PANEL_ROWS == 0 else size(rows) - first
        mask = lane_mask(minimum(self.out_columns - column, self.c.columns))

        def finished(offset: Val, value: Val) -> Val:
            at = place + offset
            return self.finish.of_images(held, value, lambda array: array.at(at).load_while(mask))

        pitch = self.out_rows * self.out_columns
        store_columns(self.y.at(place), pitch, channels, mask, values, finished)

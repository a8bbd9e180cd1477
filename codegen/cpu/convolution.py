"""
The conv2d kernels: geometry, the padded copy of the input, and which kernel a convolution gets.

Convolutions with eight or more output channels a group, and very deep ones, hold one channel in a
lane (panel_convolution.py); those with fewer, depthwise ones above all, one output column
(column_convolution.py).
"""

from __future__ import annotations

from ...dialects import qcc
from ...dialects.formats.panels import PANEL_ROWS
from .call_site import CallSite, replace_op
from .column_convolution import ColumnConvolution
from .conv_epilogue import Ending, replace_ended, take_ending
from .emit import Val, maximum, size
from .library import grain_of
from .padded_copy import PaddedCopy, padding_launcher
from .panel_convolution import PanelConvolution, panels_launcher
from .weights import weight_source
from .window import Window, static_extent, window_of

FEW_OUTPUTS = 8


def convert_conv2d(site: CallSite, op: qcc.Conv2dOp) -> None:
    window, outputs = window_of(op), qcc.logical_type(op.weight.type).shape[0]
    batch, _, rows, columns = (site.extent(op.input, axis) for axis in range(4))
    sizes = {0: batch, 1: size(outputs), 2: window.output(rows, 0), 3: window.output(columns, 1)}
    value, address = site.result(op.result.type, site.dynamic_like(op.result.type, sizes))
    bias = site.address(op.bias) if op.bias is not None else size(0)
    if window.outputs < FEW_OUTPUTS and ColumnConvolution.fits(window):
        _by_columns(site, op, window, (address, bias))
        replace_op(op, value)
        return
    ending = take_ending(op)
    _by_panels(site, op, window, (address, bias), ending)
    replace_ended(op, ending, value)


def _by_columns(site: CallSite, op: qcc.Conv2dOp, window: Window, places: tuple[Val, Val]) -> None:
    batch, _, rows, columns = (site.extent(op.input, axis) for axis in range(4))
    source, parts = weight_source(site, op.weight, window.k)
    kernel = ColumnConvolution(window, source, op.bias is not None, static_extent(op.result, 3))
    width = kernel.phase_width(columns)
    copy = _copied(site, op, PaddedCopy(window.padding, window.stride[1]), width)
    total = batch * (window.groups * kernel.channel_tiles) * window.output(rows, 0)
    work = window.output(columns, 1) * (total * (window.k * kernel.channels))
    arguments = [copy, *places, rows, columns, width, *parts]
    site.launch(kernel.launcher(site.library), arguments, total, grain_of(total, work))


def _by_panels(
    site: CallSite,
    op: qcc.Conv2dOp,
    window: Window,
    places: tuple[Val, Val],
    ending: Ending,
) -> None:
    batch, _, rows, columns = (site.extent(op.input, axis) for axis in range(4))
    out_rows, out_columns = window.output(rows, 0), window.output(columns, 1)
    kernel = PanelConvolution.of(
        site.library,
        window,
        op.bias is not None,
        (static_extent(op.result, 2), static_extent(op.result, 3)),
        ending.epilogue,
    )
    source, parts = weight_source(site, op.weight, window.k)
    panels = site.buffer(size(kernel.panels * window.k * PANEL_ROWS))
    turn = panels_launcher(site.library, window, source)
    count = size(kernel.panels)
    site.launch(turn, [panels, *parts], count, grain_of(count, count * (window.k * PANEL_ROWS)))
    if kernel.reads_in_place:
        image, pitch = site.address(op.input), columns
    else:
        pitch = maximum(columns + 2 * window.padding[1], size(kernel.reach))
        image = _copied(site, op, PaddedCopy(window.padding, 1), pitch)
    strips = kernel.strips(out_rows, out_columns)
    total = batch * kernel.tiles * strips
    work = out_rows * out_columns * batch * (kernel.panels * PANEL_ROWS * window.k)
    arrays = [site.address(array) for array in ending.arrays]
    arguments = [image, *places, panels, batch, rows, columns, pitch, *arrays]
    site.launch(kernel.launcher(site.library), arguments, total, grain_of(total, work))


def _copied(site: CallSite, op: qcc.Conv2dOp, copy: PaddedCopy, width: Val) -> Val:
    """The address of the padded copy of the input."""
    batch, channels, rows, columns = (site.extent(op.input, axis) for axis in range(4))
    lines = batch * channels * copy.rows(rows)
    target = site.buffer(lines * copy.phases * width)
    arguments = [site.address(op.input), target, rows, columns, width]
    work = lines * width * copy.phases
    site.launch(padding_launcher(site.library, copy), arguments, lines, grain_of(lines, work))
    return target

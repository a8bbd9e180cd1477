"""
Quantization of activations, dynamic and static, and the decoding of packed parameters to tensors.

    %q = qcc.quantize %x; qcc.dequantize %q   =>   y = alloc; round(&x, &y)
    qcc.dequantize (qcc.param @w)             =>   y = alloc; decode(&y, &w.codes, &w.scale, …)

Exact: a rounding kernel computes decode(encode(x)) bit for bit for every finite x, without the
codes in between. Infinities and NaNs, which the NumPy encoder refuses, become NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.errors import UnsupportedError
from ...dialects.formats import Format, parse_spelling
from ...dialects.formats.definition import Plane
from ...dialects.rounding.scales import static_numbers
from .call_site import CallSite, replace_op
from .emit import Val, f32, repeat, size, write
from .library import Arguments, KernelLibrary, grain_of
from .round_kernel import PIECES, extent_launcher, rounding_launcher
from .round_rows import Rounding
from .source_rows import Source, walk_rows
from .weights import weight_source


def convert_dequantize(site: CallSite, op: qcc.DequantizeOp) -> None:
    quantize = op.codes.owner
    if not list(op.value.uses):
        op.operation.erase()
        if isinstance(quantize, qcc.QuantizeOp) and not list(quantize.codes.uses):
            quantize.operation.erase()
        return
    if isinstance(quantize, qcc.QuantizeOp):
        _convert_round_trip(site, op, quantize)
        if not list(quantize.codes.uses):
            quantize.operation.erase()
    else:
        _convert_packed_parameter(site, op)


def _convert_round_trip(site: CallSite, op: qcc.DequantizeOp, quantize: qcc.QuantizeOp) -> None:
    source = quantize.source
    spelling = qcc.format_spelling(op.codes.type)
    assert spelling is not None
    fmt = parse_spelling(spelling)
    check_activation_format(fmt, source, op)
    type_ = ir.RankedTensorType(source.type)
    last = type_.rank - 1
    rows, row, length = site.extents(source, range(last)), 1, size(1)
    if type_.rank and type_.is_dynamic_dim(last):
        row, length = None, site.extent(source, last)
    elif type_.rank:
        row = _folded(fmt, type_.shape[last])
        rows = rows * (type_.shape[last] // max(row, 1))
    sizes = {axis: site.extent(source, axis) for axis in range(type_.rank)}
    value, address = site.result(op.value.type, site.dynamic_like(op.value.type, sizes))
    rounding = Rounding(fmt, row, static=qcc.tensor_range_of(quantize) is not None)
    known = known_of_tensor(site, quantize, rounding)
    launcher = rounding_launcher(site.library, rounding)
    arguments = [site.address(source), address, length, known]
    site.launch(launcher, arguments, rows, grain_of(rows))
    replace_op(op, value)


def known_of_tensor(site: CallSite, quantize: qcc.QuantizeOp, rounding: Rounding) -> Val:
    """The address of what rounding kernels must know of the whole tensor, 0 where nothing."""
    tensor_range = qcc.tensor_range_of(quantize)
    if tensor_range is not None:
        return site.constants(static_numbers(rounding.format, tensor_range))
    return _extents_of(site, quantize.source) if rounding.reads_tensor else size(0)


def _extents_of(site: CallSite, source: ir.Value) -> Val:
    """The address of the extents of the tensor's pieces, found by a kernel of their own."""
    pieces = site.buffer(size(2 * PIECES))
    count = site.extents(source, range(ir.RankedTensorType(source.type).rank))
    launcher = extent_launcher(site.library)
    arguments = [site.address(source), pieces, count]
    site.launch(launcher, arguments, size(PIECES), grain_of(size(PIECES)))
    return pieces


def _folded(fmt: Format, k: int) -> int:
    """Rows of one block each where blocks tile the rows: more, and shorter, units of work."""
    block = fmt.block_size
    return block if isinstance(block, int) and k > 0 and k % block == 0 else k


def check_activation_format(fmt: Format, source: ir.Value, op: ir.OpView) -> None:
    """UnsupportedError where `op` has `source` rounded to `fmt`, and no kernel can."""
    element = ir.RankedTensorType(source.type).element_type
    if not isinstance(element, ir.F32Type):
        raise UnsupportedError(
            "cpu-activation-type",
            f"the CPU target quantizes fp32 activations, not {element}",
            where=str(op.location),
            next_step="convert the tensor to fp32 before qcc.quantize",
        )
    if isinstance(fmt.element, Plane):
        raise UnsupportedError(
            "cpu-activation-format",
            f"the CPU target cannot quantize activations to {fmt.spelling}",
            where=str(op.location),
            why="it is a view of stored weights",
            next_step="choose fp8_e4m3, or another format for activations",
        )
    if fmt.needs_means or any(scale.value == "mse" for scale in fmt.block_scales):
        raise UnsupportedError(
            "cpu-activation-format",
            f"the CPU target cannot quantize activations to {fmt.spelling}",
            where=str(op.location),
            why="its clip comes from statistics or a search over the values",
            next_step="give the clip as a number (alpha=…), or choose a format for activations",
        )


def _convert_packed_parameter(site: CallSite, op: qcc.DequantizeOp) -> None:
    shape = list(ir.RankedTensorType(op.value.type).shape)
    source, parts = weight_source(site, op.codes, math.prod(shape[1:]))
    value, address = site.result(op.value.type, [])
    rows = size(shape[0])
    launcher = _decoding_launcher(site.library, source)
    site.launch(launcher, [address, *parts], rows, grain_of(rows))
    replace_op(op, value)


def _decoding_launcher(library: KernelLibrary, source: Source) -> str:
    """Arguments: y, then the parameter's parts; total is the number of rows."""

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        y = arguments.address(0, f32())
        source.bind(arguments, 1)

        @repeat(begin, end)
        def _(row: Val) -> None:
            target = y.at(row * source.k)

            def keep(k: Val, ws: list[Val], carried: Sequence[Val], count: int) -> Sequence[Val]:
                write(target.at(k), 0, count, ws[0])
                return carried

            walk_rows(source, [row], keep, ())

    return library.launcher(f"decode {source.k} {source.key}", 1 + source.part_count, emit)

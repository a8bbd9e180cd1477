"""
Convolutions become launches of kernels that gather windows as they copy them.

    y = qcc.conv2d x, w, b
      =>  w = qcc.param "w" {layout = "mma16-taps1"} : …
          y = tile.launch @conv_int4_0 (x, w, b)

Images are f16, bf16 or f32 (rounded to f16 as they are copied), or the codes of a `qcc.quantize` to
int8 with one scale for the tensor, whose products with integer weights are exact. Layers of equal
shapes and formats share a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..dialects import qcc
from ..dialects.bindings import Operation, arith, ir
from ..dialects.errors import UnsupportedError
from ..dialects.formats import parse_spelling
from ..dialects.formats.window_packets import spelled_layout
from ..dialects.regions import walk
from ..dialects.tile.conv_problem import ConvProblem, Window, refusal
from ..dialects.tile.conv_schedule import ConvSchedule, default_convolution
from ..dialects.tile.warp_launch import WarpLaunch
from .conv_kernel import conv_kernel
from .launching import (
    Argument,
    Kernels,
    Made,
    Number,
    Read,
    Scheduling,
    Shape,
    Size,
    Write,
    launch,
    pieces,
    product,
    size_of,
    unsupported,
    words,
)
from .require_decoded import require_decoded
from .schedule_linear import producer_name

MANY_PIXELS = 4096
"""What kernels for an unknown number of output pixels are chosen for."""


Chooser = Callable[[ConvProblem, str], ConvSchedule]


def schedule_conv2d(
    options: Scheduling, choose: Chooser = default_convolution
) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        kernels: Kernels[WarpLaunch] = Kernels(module, options.target)
        for op in walk(module):
            if isinstance(op, qcc.Conv2dOp):
                with ir.InsertionPoint(op), op.location:
                    _replace(op, kernels, choose)

    return apply


def _replace(op: qcc.Conv2dOp, kernels: Kernels[WarpLaunch], choose: Chooser) -> None:
    problem, codes = conv_problem(op, kernels.target)
    schedule = choose(problem, kernels.target)
    kernel = kernels.once(
        problem,
        f"conv_{problem.format.name}",
        lambda name: conv_kernel(problem, schedule, name, kernels.target),
    )
    window = problem.window
    parameter: Any = op.weight.owner
    layout = spelled_layout(problem.program.order.name, problem.by_tap, window.groups)
    parameter.attributes[qcc.LAYOUT_ATTRIBUTE] = ir.StringAttr.get(layout)
    images, height, width = (size_of(op.input, axis) for axis in (0, 2, 3))
    out_height, out_width = (
        _output(window, size, axis) for axis, size in enumerate((height, width))
    )
    sizes = {"images": images, "height": height, "width": width,
             "out_height": out_height, "out_width": out_width}  # fmt: skip
    known: dict[str, Argument] = {name: Number(size) for name, size in sizes.items()}
    known |= {"y": Write(0), "x": Read(op.input)}
    if codes is not None:
        known |= {"x": Read(codes, "codes"), "x_scale": Read(codes, "scale")}
    if op.bias is not None:
        known["bias"] = Read(op.bias)
    known |= {name: Read(words(table)) for name, table in kernel.tables.items()}
    outputs = problem.strips * 16
    grid = (
        _tiles(problem, schedule, images, (out_height, out_width)),
        -(-outputs // schedule.block_outputs),
        window.groups,
    )
    shape = Shape(grid, kernel.threads, kernel.shared_bytes)
    arguments = [known.get(name) or Read(op.weight, name) for name in kernel.arguments]
    dynamic = ir.RankedTensorType(op.result.type)
    extents = [
        size
        for axis, size in enumerate((images, problem.outputs, out_height, out_width))
        if dynamic.is_dynamic_dim(axis)
    ]
    made = Made(op.result.type, tuple(extents))
    [result] = launch(kernel.kernel, shape, arguments, [made], op.operation)
    op.result.replace_all_uses_with(result)
    op.operation.erase()


def _tiles(
    problem: ConvProblem, schedule: ConvSchedule, images: Size, extents: tuple[Size, Size]
) -> Size:
    """Blocks that cover the pixels of the result, by `ConvSchedule.tiles`."""
    if not schedule.width:
        return pieces(product([images, *extents]), schedule.block_pixels)
    rows = pieces(extents[0], schedule.height(problem))
    return product([images, rows, pieces(extents[1], schedule.width)])


def _output(window: Window, size: Size, axis: int) -> Size:
    """Rows or columns of the result, by `Window.output`."""
    if isinstance(size, int):
        return window.output(size, axis)
    span = (window.taps[axis] - 1) * window.dilation[axis] + 1
    kind = ir.IndexType.get()
    moved = arith.addi(size, arith.constant(kind, 2 * window.padding[axis] - span))
    steps = arith.divsi(moved, arith.constant(kind, window.stride[axis]))
    return arith.addi(steps, arith.constant(kind, 1))


def conv_problem(op: qcc.Conv2dOp, target: str) -> tuple[ConvProblem, ir.Value | None]:
    """What a layer computes, and the codes that its kernel reads in place of the input."""
    spelling = qcc.format_spelling(op.weight.type)
    if spelling is None or producer_name(op.weight) != "qcc.param":
        raise _refused(op, f"its weight is {op.weight.type}", "give the parameter a format")
    outputs, channels, *taps = qcc.logical_type(op.weight.type).shape
    groups = ir.IntegerAttr(op.groups).value
    stride, padding, dilation = (_pair(each) for each in (op.stride, op.padding, op.dilation))
    shape = channels, outputs // groups, (taps[0], taps[1])
    window = Window(*shape, stride, padding, dilation, groups)
    result = ir.RankedTensorType(op.result.type)
    known = all(not result.is_dynamic_dim(axis) for axis in (0, 2, 3))
    pixels = result.shape[0] * result.shape[2] * result.shape[3] if known else MANY_PIXELS
    element = str(ir.RankedTensorType(op.input.type).element_type)
    activation = element if element in ("f16", "bf16") else "f16"
    bias = None if op.bias is None else str(ir.RankedTensorType(op.bias.type).element_type)
    problem = ConvProblem(
        window, spelling, pixels, activation, None if element == activation else element,
        str(result.element_type), bias,
    )  # fmt: skip
    codes = multiplied_codes(op, problem, target)
    if codes is not None:
        problem = replace(problem, activation="i8", source=None)
    else:
        require_decoded(op, "conv2d", "a convolution", problem.format, activation)
    return problem, codes


def multiplied_codes(op: qcc.Conv2dOp, problem: ConvProblem, target: str) -> ir.Value | None:
    """The codes of rounded images that are multiplied as such, if they and the weight can."""
    quantize = qcc.rounding_of(op.input)
    spelling = None if quantize is None else qcc.format_spelling(quantize.codes.type)
    if quantize is None or spelling is None:
        return None
    fmt = parse_spelling(spelling)
    exact = fmt.name == "int8" and fmt.block_size == "tensor" and fmt.zero_point is None
    try:
        refused = refusal(replace(problem, activation="i8", source=None), target)
    except UnsupportedError:
        return None
    return quantize.codes if exact and not refused else None


def _pair(values: Any) -> tuple[int, int]:
    first, second = ir.DenseI64ArrayAttr(values)
    return first, second


def _refused(op: qcc.Conv2dOp, why: str, next_step: str) -> UnsupportedError:
    return unsupported(op, "conv2d", "a convolution", why, next_step)

"""
Convolutions become launches of kernels that gather windows as they copy them.

    y = qcc.conv2d x, w, b
      =>  w = qcc.param "w" {layout = "mma16-taps1"} : …
          y = tile.launch @conv_int4_0 (x, w, b)

Images are f16, bf16 or f32 (rounded to f16 as they are copied), or the codes of a `qcc.quantize` to
integers with one scale for the tensor, whose products with integer weights are exact. A result that
is only rounded to such integers, with a scale known before, for other convolutions is stored as
those (requantised_results.py), in the layout that they read (image_layouts.py). Layers of equal
shapes and formats share a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..dialects import qcc
from ..dialects.bindings import Operation, arith, ir
from ..dialects.formats.window_packets import spelled_layout
from ..dialects.regions import walk
from ..dialects.rounding.scales import static_numbers
from ..dialects.tile.conv_problem import ConvProblem, Window, per_element, refusal
from ..dialects.tile.conv_schedule import ConvSchedule, default_convolution
from ..dialects.tile.warp_launch import WarpLaunch
from .conv_kernel import conv_kernel
from .conv_layers import NHWC, Layer
from .expand_roundings import CAST
from .image_layouts import lay_out_images, readers_of
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
    words,
)
from .requantised_results import Requantised, requantised

Chooser = Callable[[ConvProblem, str], ConvSchedule]


def schedule_conv2d(
    options: Scheduling, choose: Chooser = default_convolution
) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        kernels: Kernels[WarpLaunch] = Kernels(module, options.target)
        layers = []
        for op in walk(module):
            if isinstance(op, qcc.Conv2dOp):
                layers.append(Layer.of(op, options.target))
        for layer in layers:
            _requantise(layer, layers, options.target)
        for layer in layers:
            layer.schedule = choose(layer.problem, options.target)
        lay_out_images(layers)
        for layer in layers:
            with ir.InsertionPoint(layer.op), layer.op.location:
                sizes = _sizes(layer, layers)
            with ir.InsertionPoint(layer.place), layer.op.location:
                _launch(layer, sizes, kernels)
        for layer in reversed(layers):
            _erase(layer)

    return apply


def _requantise(layer: Layer, layers: list[Layer], target: str) -> None:
    """Lets a layer store codes, where its result is nothing else to anybody."""
    found = requantised(layer.op.result)
    if found is None:
        return
    readers = readers_of(found.quantize.codes, layers)
    if readers is None or len({each.problem.activation for each in readers}) != 1:
        return
    problem = replace(
        layer.problem, result=readers[0].problem.activation, result_block=NHWC,
        requantised=qcc.format_of(found.quantize.codes).spelling, ending=found.ending,
    )  # fmt: skip
    if refusal(problem, target) is None:
        layer.problem, layer.requantised = problem, found


def _launch(layer: Layer, sizes: dict[str, Size], kernels: Kernels[WarpLaunch]) -> None:
    op, problem, schedule = layer.op, layer.problem, layer.schedule
    kernel = kernels.once(
        problem,
        f"conv_{problem.format.name}",
        lambda name: conv_kernel(problem, schedule, name, kernels.target),
    )
    window = problem.window
    parameter: Any = op.weight.owner
    layout = spelled_layout(problem.program.order.name, problem.by_tap, window.groups)
    parameter.attributes[qcc.LAYOUT_ATTRIBUTE] = ir.StringAttr.get(layout)
    known: dict[str, Argument] = {name: Number(size) for name, size in sizes.items()}
    known |= _read(layer) | {name: Read(words(table)) for name, table in kernel.tables.items()}
    grid = (
        _tiles(problem, schedule, layer.extents),
        -(-problem.strips * 16 // schedule.block_outputs),
        window.groups,
    )
    shape = Shape(grid, kernel.threads, kernel.shared_bytes)
    arguments = [known.get(name) or Read(op.weight, name) for name in kernel.arguments]
    [result] = launch(kernel.kernel, shape, arguments, [_made(layer)], op.operation)
    layer.made = _packed(layer, result)


def _read(layer: Layer) -> dict[str, Argument]:
    """Arguments that the kernel of a layer reads, and its result."""
    op, codes, found = layer.op, layer.codes, layer.requantised
    known: dict[str, Argument] = {"y": Write(0), "x": Read(op.input)}
    if codes is not None:
        role = layer.problem.x_scale.role
        known |= {"x": Read(codes, "codes"), "x_scale": Read(codes, role)}
    if op.bias is not None:
        known["bias"] = Read(op.bias)
    if found is not None:
        known["y_scale"] = Read(_numbers(_static(found)[:1]))
        known |= {f"channel{i}": Read(each) for i, each in enumerate(found.channels)}
    return known


def _static(found: Requantised) -> list[float]:
    """What values are divided or multiplied by, and the scale that is stored."""
    tensor_range = qcc.tensor_range_of(found.quantize)
    assert tensor_range is not None
    return static_numbers(qcc.format_of(found.quantize.codes), tensor_range)


def _numbers(values: list[float]) -> ir.Value:
    kind = ir.RankedTensorType.get([len(values)], ir.F32Type.get())
    elements = [ir.FloatAttr.get(ir.F32Type.get(), each) for each in values]
    return arith.constant(kind, ir.DenseElementsAttr.get(elements, kind))


def _sizes(layer: Layer, layers: list[Layer]) -> dict[str, Size]:
    """The numbers that a kernel is given; and the extents of the layer's result."""
    images, height, width = _images(layer, layers)
    problem = layer.problem
    across = [_output(problem.window, size, axis) for axis, size in enumerate((height, width))]
    layer.extents = [images, problem.outputs, *across]
    return {"images": images, "height": height, "width": width, "out_height": across[0],
            "out_width": across[1]}  # fmt: skip


def _images(layer: Layer, layers: list[Layer]) -> list[Size]:
    """How many images a layer reads, their rows and columns."""
    for other in layers:
        if other.requantised is not None and other.requantised.quantize.codes == layer.codes:
            return [other.extents[axis] for axis in (0, 2, 3)]
    return [size_of(layer.op.input, axis) for axis in (0, 2, 3)]


def _made(layer: Layer) -> Made:
    """The result as the model has it, or codes in the layout that is read."""
    extents, kind, problem = layer.extents, ir.RankedTensorType(layer.op.result.type), layer.problem
    if layer.requantised is None:
        open_ = [size for axis, size in enumerate(extents) if kind.is_dynamic_dim(axis)]
        return Made(kind, tuple(open_))
    by, c, n = per_element(problem.result), problem.result_block, problem.result_images
    images, channels, height, width = kind.shape
    shape = [images, height, width, channels // by]
    if c != NHWC:
        shape = [images // n, channels // c, height, width, n, c // by]
    open_ = [extents[axis] for axis in (0, 2, 3) if kind.is_dynamic_dim(axis)]
    byte = ir.IntegerType.get_signless(8)
    return Made(ir.RankedTensorType.get(shape, byte), tuple(open_))


def _packed(layer: Layer, result: ir.Value) -> ir.Value:
    """The result; codes become a packed value, with their scale."""
    found = layer.requantised
    if found is None:
        return result
    fmt = qcc.format_of(found.quantize.codes)
    parts = [result if role == fmt.code_part else _numbers(_static(found)[1:2])
             for role in fmt.part_specs(1, 1)]  # fmt: skip
    return ir.Operation.create(
        CAST, results=[found.quantize.codes.type], operands=parts
    ).results[0]  # fmt: skip


def _erase(layer: Layer) -> None:
    """The layer, and what its kernel does in place of other ops; those behind it are gone."""
    found, op = layer.requantised, layer.op
    assert layer.made is not None
    if found is None:
        op.result.replace_all_uses_with(layer.made)
    else:
        decoded = [use.owner for use in found.quantize.codes.uses]
        for each in decoded:
            if isinstance(each, qcc.DequantizeOp):
                _replace_sizes(each.value, layer.extents)
                each.operation.erase()
        found.quantize.codes.replace_all_uses_with(layer.made)
        found.quantize.operation.erase()
        for generic in reversed(found.generics):
            _replace_sizes(generic.operation.results[0], layer.extents)
            generic.operation.erase()
        _replace_sizes(op.result, layer.extents)
    op.operation.erase()


def _replace_sizes(value: ir.Value, extents: Sequence[Size]) -> None:
    """Extents that are asked of a tensor which will not exist."""
    for use in list(value.uses):
        asked: Any = use.owner
        if asked.operation.name != "tensor.dim":
            continue
        axis = ir.IntegerAttr(asked.operation.operands[1].owner.attributes["value"]).value
        with ir.InsertionPoint(asked), asked.location:
            size = extents[axis]
            size = arith.constant(ir.IndexType.get(), size) if isinstance(size, int) else size
        asked.operation.results[0].replace_all_uses_with(size)
        asked.operation.erase()


def _tiles(problem: ConvProblem, schedule: ConvSchedule, extents: Sequence[Size]) -> Size:
    """Blocks that cover the pixels of a result [N, C, H, W], by `ConvSchedule.tiles`."""
    images, _, height, width = extents
    if not schedule.width:
        return pieces(product([images, height, width]), schedule.block_pixels)
    rows = pieces(height, schedule.height(problem))
    return product([images, rows, pieces(width, schedule.width)])


def _output(window: Window, size: Size, axis: int) -> Size:
    """Rows or columns of the result, by `Window.output`."""
    if isinstance(size, int):
        return window.output(size, axis)
    span = (window.taps[axis] - 1) * window.dilation[axis] + 1
    kind = ir.IndexType.get()
    moved = arith.addi(size, arith.constant(kind, 2 * window.padding[axis] - span))
    steps = arith.divsi(moved, arith.constant(kind, window.stride[axis]))
    return arith.addi(steps, arith.constant(kind, 1))

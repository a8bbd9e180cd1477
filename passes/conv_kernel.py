"""
The kernel of a convolution: a product with windows that are gathered as they are copied.

    y = qcc.conv2d x, w : !qcc.packed<tensor<OxCxHxWxf32>, "int4">
      =>  tile.warp_kernel { loop over k { patches of x; rows of codes, scales; multiply } each;
                             save_image }

Output pixels are the rows of the product, output channels its columns. No patch exists in global
memory: a window's pixels are copied straight to where matrix instructions read them. Numerics are
those of linear layers (linear_kernel.py): codes rounded at most once, scales in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects import tile
from ..dialects.bindings import arith, ir, math
from ..dialects.formats.packets import LANES, PACKET_COLUMNS, PACKET_ROWS
from ..dialects.tile.conv_problem import ConvProblem, ConvSchedule, held_groups
from ..dialects.tile.dialect import tensor_of
from ..dialects.tile.fragments import INSTRUCTIONS
from ..dialects.tile.problem import chunk_columns
from ..dialects.tile.warp_launch import WarpLaunch
from .tile_builder import (
    Number,
    each,
    fill,
    fragment,
    index,
    label,
    loop,
    position,
    rows_of,
    shared,
    single,
    text,
    unroll,
    whole,
    write_kernel,
)

Values = dict[str, ir.Value]
NUMBERS = ("images", "height", "width", "out_height", "out_width")


def conv_kernel(
    problem: ConvProblem, schedule: ConvSchedule, name: str, target: str = "sm_80"
) -> WarpLaunch:
    """
    Write the kernel at the insertion point; its grid is (tiles of pixels, tiles of outputs of a
    group, groups).

    Arguments: "x", the parts of the weight (window_packets.py), "x_scale" of i8 images, "bias",
    "table", "y_scale" of an i8 result, "y", then images, height, width, out_height, out_width.
    """
    writer = _Convolution(problem, schedule)
    kinds = writer.argument_types()
    return write_kernel(name, (target, schedule.warps), kinds, ("y",), writer.write)


@dataclass
class _Convolution:
    problem: ConvProblem
    schedule: ConvSchedule

    def __post_init__(self) -> None:
        record = INSTRUCTIONS[self.problem.instruction]
        self.part_type = record.accumulator
        self.sum_type = self.part_type if self.problem.group is None else "f32"

    def argument_types(self) -> dict[str, ir.Type]:
        p = self.problem
        outputs = p.window.groups * p.strips * PACKET_ROWS
        kinds = {"x": rows_of(1, p.memory)}
        kinds[p.format.code_part] = rows_of(p.units * LANES * p.format.bits, "ui32")
        kinds |= {role: rows_of(outputs, kind) for role, kind in p.row_parts().items()}
        kinds |= {role: rows_of(1, "f32") for role in self.tensor_factors()}
        if p.activation == "i8":
            kinds["x_scale"] = rows_of(1, "f32")
        if p.bias is not None:
            kinds["bias"] = rows_of(1, p.bias)
        if p.program.table:
            kinds["table"] = rows_of(1, "ui32")
        if p.result == "i8":
            kinds["y_scale"] = rows_of(1, "f32")
        kinds["y"] = rows_of(1, p.result)
        return kinds | dict.fromkeys(NUMBERS, ir.IndexType.get())

    def tensor_factors(self) -> list[str]:
        return sorted(self.problem.format.tensor_roles - {"zero_point"})

    def row_scales(self) -> list[str]:
        fmt = self.problem.format
        return [each.role for each in fmt.block_scales if each.role not in fmt.tensor_roles]

    # ---- types

    def sums(self, kind: str) -> ir.Type:
        s = self.schedule
        return fragment([s.warps, s.pixels, s.outputs], kind, "c")

    def per_output(self, kind: str) -> ir.Type:
        return fragment([self.schedule.warps, self.schedule.outputs], kind, "columns")

    # ---- the kernel

    def write(self, given: Values) -> None:
        p, s = self.problem, self.schedule
        self.number = {name: Number(given[name]) for name in NUMBERS}
        warp = Number(index("warp", "warp"))
        self.warp_pixel = (warp % s.warps_m * s.pixels) if s.warps_m > 1 else Number(0)
        self.warp_output = (warp // s.warps_m * s.outputs) if s.warps_n > 1 else Number(0)
        first = Number(index("x", "pixel_tile")) * s.block_pixels
        self.pixel = first.named("first_pixel")
        self.output = (Number(index("y", "output_tile")) * s.block_outputs).named("first_output")
        self.of_group = Number(index("z", "group")) if p.window.groups > 1 else Number(0)
        self.image_pixels = (self.number["out_height"] * self.number["out_width"]).named("pixels")
        self.pixels = (self.number["images"] * self.image_pixels).named("all_pixels")
        self.left = (self.pixels - self.pixel).named("pixels_left")
        self.views = self.view(given)
        initial = [fill(0.0, self.sums(self.sum_type), "total")]
        last = Number(p.stored_k)
        (total,) = loop(Number(0), last, initial, s.depth, s.stages,
                        lambda k, carried: [self.step(k, carried[0])])  # fmt: skip
        self.save(self.epilogue(total))

    def view(self, given: Values) -> Values:
        p, number = self.problem, self.number
        width = (number["width"] + (p.row_multiple - 1)) // p.row_multiple * p.row_multiple
        input_size = number["images"] * number["height"] * width * p.channels
        sizes = {
            "x": input_size, p.format.code_part: Number(p.window.groups * p.strips),
            "bias": Number(p.outputs), "y": self.pixels * p.outputs,
            "table": Number(len(p.program.table)),
        }  # fmt: skip
        sizes |= {role: Number(p.scale_rows if role != "zero_point" or p.group else 1)
                  for role in p.row_parts()}  # fmt: skip
        return {
            name: tile.ViewOp(value, sizes.get(name, Number(1)).value, value.type).view
            for name, value in given.items()
            if name not in NUMBERS
        }

    def step(self, k: Number, total: ir.Value) -> ir.Value:
        p, s = self.problem, self.schedule
        tiles = self.copies(k)
        chunk = chunk_columns(p.stored_group)

        def product(at: Number, carried: list[ir.Value]) -> list[ir.Value]:
            kind = fragment([s.warps, s.pixels, chunk], p.activation, "a")
            straight = text("straight")
            left = tile.OperandOp(tiles["x"], self.warp_pixel.value, at.value, straight, kind)
            label(left.fragment, "left")
            total = carried[0]
            for sign, role in self.signs():
                total = self.accumulate(tiles, left.fragment, k, at, total, sign, role)
            return [total]

        return unroll([total], s.depth, chunk, product, "at_k")[0]

    def copies(self, k: Number) -> Values:
        """Shared tiles of one iteration, by role."""
        p, s = self.problem, self.schedule
        kind = shared([s.block_pixels, s.depth], p.activation)
        number = [self.number[name].value for name in NUMBERS[1:]]
        channel = self.of_group * p.window.channels
        made: Values = {"x": tile.PatchesOp(
            self.views["x"], self.pixel.value, self.left.value, k.value,
            channel.value, *number, self.window(), kind,
        ).tile}  # fmt: skip
        strip = self.output // PACKET_ROWS
        words = LANES * p.format.bits
        kind = shared([s.block_outputs // PACKET_ROWS, s.depth // PACKET_COLUMNS * words], "ui32")
        first, count = self.of_group * p.strips + strip, Number(p.strips) - strip
        made["codes"] = self.brought(
            p.format.code_part, first, k // PACKET_COLUMNS * words, count, kind
        )
        column = (self.of_group * p.strips + strip) * PACKET_ROWS
        for role, element in p.row_parts().items():
            if p.group is None and role != "zero_point":
                continue
            kind = shared([held_groups(p, s.depth), s.block_outputs], element)
            row = k // p.stored_group if p.stored_group else Number(0)
            made[role] = self.brought(role, row, column, Number(p.scale_rows) - row, kind)
        return made

    def brought(
        self, name: str, first: Number, column: Number, count: Number, kind: ir.Type
    ) -> ir.Value:
        view = self.views[name]
        return tile.RowsOp(view, first.value, column.value, count.value, text("normal"), kind).tile

    def window(self) -> ir.DictAttr:
        p, w = self.problem, self.problem.window
        padded = p.group is not None and p.group != p.stored_group
        lists = {
            "taps": w.taps, "stride": w.stride, "padding": w.padding, "dilation": w.dilation,
            "groups": (p.group or 0, p.stored_group or 0) if padded else (),
        }  # fmt: skip
        numbers = {
            "channels": w.channels, "all_channels": p.channels, "block": p.block or p.channels,
            "row_multiple": p.row_multiple, "by_tap": int(p.by_tap), "vector": p.vector(16),
            "k": p.stored_k,
        }  # fmt: skip
        made: dict[str, ir.Attribute] = {
            name: ir.DenseI64ArrayAttr.get(list(values)) for name, values in lists.items()
        }
        return ir.DictAttr.get(made | {name: whole(value) for name, value in numbers.items()})

    def signs(self) -> list[tuple[str, str | None]]:
        """For each scale of a group, whom it serves; one without a role where rows have one."""
        fmt = self.problem.format
        if self.problem.group is None or not fmt.block_scales:
            return [("all", None)]
        return [(scale.of if fmt.splits_signs else "all", scale.role) for scale in fmt.block_scales]

    def accumulate(
        self, tiles: Values, left: ir.Value, k: Number, at: Number, total: ir.Value, sign: str,
        role: str | None,
    ) -> ir.Value:  # fmt: skip
        p, s = self.problem, self.schedule
        chunk = tensor_of(left.type).shape[2]
        row = self.scale_row(k, at)
        optional: Values = {}
        if "zero_point" in tiles:
            optional = {"zeros": tiles["zero_point"], "zero_column": row.value}
        if "table" in self.views:
            optional["table"] = self.views["table"]
        right = tile.UnpackOp(
            tiles["codes"], (self.warp_output // PACKET_ROWS).value, at.value, Number(0).value,
            text(p.weight), text(sign), text("rows"), text("row"),
            fragment([s.warps, s.outputs, chunk], p.activation, "b"), **optional,
        ).fragment  # fmt: skip
        part = total if role is None else fill(0.0, self.sums(self.part_type), "part")
        part = tile.MultiplyOp(
            left, right, part, Number(0).value, text(p.instruction), part.type
        ).result
        if role is None:
            return part
        scale = self.factors(tiles[role], role, row)
        integer = self.part_type == "i32"

        def added(total: ir.Value, part: ir.Value, scale: ir.Value) -> ir.Value:
            part = arith.sitofp(ir.F32Type.get(), part) if integer else part
            return arith.addf(arith.mulf(part, scale), total)

        return each([total, part, scale], total.type, added)

    def scale_row(self, k: Number, at: Number) -> Number:
        """The row of the group of column k + at, among those that a tile holds."""
        group, depth = self.problem.stored_group, self.schedule.depth
        if group is None or group % depth == 0:
            return Number(0)
        if depth % group == 0:
            return at // group
        return (k + at) // group - k // group

    def factors(self, stored: ir.Value, role: str, row: Number) -> ir.Value:
        """The factors of this warp's outputs in one group, with that of the decode program."""
        element = str(tensor_of(stored.type).element_type)
        taken = tile.ColumnsOp(
            stored, row.value, self.warp_output.value, text("row"), self.per_output(element)
        ).vector
        label(taken, "stored_factor")
        return each([taken], self.per_output("f32"), lambda x: self.decoded(x, role), "factor")

    def decoded(self, stored: ir.Value, role: str) -> ir.Value:
        p = self.problem
        decoding, factor = p.format.scale_decoding(role), p.program.factor
        value = tile.ScaleOp(stored, text(decoding.kind), ir.F32Type.get()).value
        if decoding.divide:
            return arith.divf(single(factor), value)
        return value if factor == 1 else arith.mulf(value, single(factor))

    # ---- the end

    def epilogue(self, total: ir.Value) -> ir.Value:
        """Scales of outputs, images and the tensor; bias; one rounding to the result's type."""
        p = self.problem
        inputs, steps = [total], []
        if p.group is None:
            for role in self.row_scales():
                inputs.append(self.per_channel(role))
                steps.append("times")
        if p.bias is not None:
            inputs.append(self.bias())
            steps.append("plus")

        def finished(value: ir.Value, *others: ir.Value) -> ir.Value:
            if self.sum_type == "i32":
                value = arith.sitofp(ir.F32Type.get(), value)
            if p.group is None and not self.row_scales() and p.program.factor != 1:
                value = arith.mulf(value, single(p.program.factor))
            for other, step in zip(others, steps, strict=True):
                if step == "plus":
                    value = self.of_tensor(value)
                    value = arith.addf(value, other)
                else:
                    value = arith.mulf(value, other)
            value = value if "plus" in steps else self.of_tensor(value)
            return self.narrowed(value)

        return each(inputs, self.sums(p.result), finished, "results")

    def of_tensor(self, value: ir.Value) -> ir.Value:
        """Times the scales of the whole weight, and of the images."""
        f32 = ir.F32Type.get()
        for role in [*self.tensor_factors(), *(["x_scale"] * ("x_scale" in self.views))]:
            factor = tile.ElementOp(self.views[role], Number(0).value, f32).element
            divide = role != "x_scale" and self.problem.format.scale_decoding(role).divide
            value = arith.divf(value, factor) if divide else arith.mulf(value, factor)
        return value

    def narrowed(self, value: ir.Value) -> ir.Value:
        p, f32 = self.problem, ir.F32Type.get()
        if p.relu:
            value = arith.maxnumf(value, single(0.0))
        if p.result == "i8":
            scale = tile.ElementOp(self.views["y_scale"], Number(0).value, f32).element
            value = math.roundeven(arith.divf(value, scale))
            value = arith.minnumf(arith.maxnumf(value, single(-128.0)), single(127.0))
            return arith.fptosi(ir.IntegerType.get_signless(8), value)
        return value if p.result == "f32" else arith.truncf(ir.Type.parse(p.result), value)

    def per_channel(self, role: str) -> ir.Value:
        """Scales of this warp's outputs, from global memory."""
        p, view = self.problem, self.views[role]
        stored = p.strips * PACKET_ROWS
        first = self.output + self.warp_output
        element = tensor_of(view.type).element_type

        def read() -> ir.Value:
            row = (Number(position("column")) + first).least(stored - 1)
            at = self.of_group * stored + row
            return self.decoded(tile.ElementOp(view, at.value, element).element, role)

        return each([], self.per_output("f32"), read, "factor")

    def bias(self) -> ir.Value:
        p, view = self.problem, self.views["bias"]
        first, element = self.output + self.warp_output, tensor_of(self.views["bias"].type)

        def read() -> ir.Value:
            row = (Number(position("column")) + first).least(p.window.outputs - 1)
            at = self.of_group * p.window.outputs + row
            value = tile.ElementOp(view, at.value, element.element_type).element
            return value if p.bias == "f32" else arith.extf(ir.F32Type.get(), value)

        return each([], self.per_output("f32"), read, "bias_of_output")

    def save(self, results: ir.Value) -> None:
        p = self.problem
        block = p.result_block or p.outputs
        output = self.output + self.warp_output
        op = tile.SaveImageOp(
            results, self.views["y"], (self.pixel + self.warp_pixel).value, self.pixels.value,
            (self.of_group * p.window.outputs + output).value,
            (Number(p.window.outputs) - output).value, self.image_pixels.value,
            whole(p.outputs), whole(block),
        )  # fmt: skip
        if block % 2 == 0 and p.window.outputs % 2 == 0:
            op.operation.attributes["pairs"] = ir.BoolAttr.get(True)

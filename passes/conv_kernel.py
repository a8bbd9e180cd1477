"""
The kernel of a convolution: a product with windows that are gathered as they are copied.

    y = qcc.conv2d x, w : !qcc.packed<tensor<OxCxHxWxf32>, "int4">
      =>  tile.warp_kernel { loop over k { patches of x; rows of codes, scales; multiply } each;
                             save_image }

Output pixels are the rows of the product, output channels its columns; of warp groups it is the
other way round, since only their left operand may come from registers, where weights are decoded.
No patch exists in global memory: a window's pixels are copied straight to where matrix
instructions read them, or each pixel once, and windows read it from there (ConvSchedule.width).
Numerics are those of linear layers (linear_kernel.py): codes rounded at most once, scales in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..dialects import tile
from ..dialects.bindings import arith, ir
from ..dialects.formats.packets import LANES, PACKET_COLUMNS, PACKET_ROWS
from ..dialects.tile.conv_problem import ConvProblem, per_element
from ..dialects.tile.conv_schedule import (
    ConvSchedule,
    held_groups,
    single_warps,
    whole_weights,
)
from ..dialects.tile.dialect import tensor_of
from ..dialects.tile.fragments import INSTRUCTIONS
from ..dialects.tile.hardware import is_native
from ..dialects.tile.problem import WARP_GROUP_INSTRUCTION_OF, chunk_columns, signed_scales
from ..dialects.tile.warp_launch import WarpLaunch
from .conv_epilogue import Epilogue, channel_numbers, results_shape
from .conv_pixels import NUMBERS, GatheredPixels, HeldPixels, rounded_up
from .tile_builder import (
    Number,
    each,
    fill,
    fragment,
    index,
    label,
    loop,
    rows_of,
    shared,
    text,
    unroll,
    whole,
    write_kernel,
)

Values = dict[str, ir.Value]


def conv_kernel(
    problem: ConvProblem, schedule: ConvSchedule, name: str, target: str = "sm_80"
) -> WarpLaunch:
    """
    Write the kernel at the insertion point; its grid is (ConvSchedule.tiles, tiles of outputs of a
    group, groups).

    Arguments: "x", the parts of the weight (window_packets.py), "x_scale" of integer images,
    "bias", "table", "y_scale" of an integer result, "channel0" … of its ending, "y", then images,
    height, width, out_height, out_width.
    """
    writer = _Convolution(problem, schedule)
    kinds = writer.argument_types()
    comment = comment_of(problem, schedule, target)
    return write_kernel(name, (target, schedule.warps), kinds, ("y",), writer.write, comment)


def comment_of(problem: ConvProblem, schedule: ConvSchedule, target: str) -> str:
    """The blocks of a kernel, and why it has no groups of warps where the machine has them."""
    s = schedule
    block = f"{s.block_pixels} pixels x {s.block_outputs} channels a block"
    lines = [f"{problem.weight} x {problem.activation}: {block}, steps of {s.depth}"]
    groups = WARP_GROUP_INSTRUCTION_OF.get(problem.activation, "")
    if groups and is_native(target, groups) and not s.warp_groups:
        why = single_warps(problem, target) or "the schedule says so"
        lines.append(f"{problem.instruction}, not {groups}: {why}")
    return "\n".join(lines)


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
        kinds |= {role: rows_of(1, kind) for role, kind in p.tensor_factors().items()}
        if p.integer:
            kinds["x_scale"] = rows_of(1, "f32")
        if p.bias is not None:
            kinds["bias"] = rows_of(1, p.bias)
        if p.program.table:
            kinds["table"] = rows_of(1, "ui32")
        if p.requantised is not None:
            kinds["y_scale"] = rows_of(1, "f32")
        kinds |= {name: rows_of(1, "f32") for name in channel_numbers(p)}
        kinds["y"] = rows_of(1, "i8" if p.requantised else p.result)
        return kinds | dict.fromkeys(NUMBERS, ir.IndexType.get())

    def sums(self, kind: str) -> ir.Type:
        return fragment(results_shape(self.schedule), kind, "c")

    # ---- the kernel

    def write(self, given: Values) -> None:
        p, s = self.problem, self.schedule
        self.number = {name: Number(given[name]) for name in NUMBERS}
        warp_pixel, warp_output = self.places_of_warps()
        self.output = (Number(index("y", "output_tile")) * s.block_outputs).named("first_output")
        self.of_group = Number(index("z", "group")) if p.window.groups > 1 else Number(0)
        kind = HeldPixels if s.width else GatheredPixels
        self.pixels = kind(p, s, self.number, self.of_group, warp_pixel)
        self.warp_output, self.views = warp_output, self.view(given)
        initial = [fill(0.0, self.sums(self.sum_type), "total")]
        step = self.held_step if s.width else self.step
        last = p.window.channels if s.width else p.stored_k
        (total,) = loop(Number(0), Number(last), initial, s.depth, s.stages,
                        lambda k, carried: [step(k, carried[0])])  # fmt: skip
        ending = Epilogue(p, s, self.views, self.output + warp_output, self.of_group)
        self.save(ending.results(total, self.sum_type))

    def places_of_warps(self) -> tuple[Number, Number]:
        """The first pixel and output of a warp; the four of a group have the same pixels."""
        s, warp = self.schedule, Number(index("warp", "warp"))
        if s.warp_groups:
            pixel = (warp // s.warps_n * s.pixels) if s.warps_m > 1 else Number(0)
            return pixel, warp % s.warps_n * s.outputs
        pixel = (warp % s.warps_m * s.pixels) if s.warps_m > 1 else Number(0)
        return pixel, (warp // s.warps_m * s.outputs) if s.warps_n > 1 else Number(0)

    def view(self, given: Values) -> Values:
        p, number = self.problem, self.number
        width = rounded_up(number["width"], p.row_multiple)
        of_image = number["height"] * width * (p.channels // p.per_element)
        outputs = p.outputs // (per_element(p.result) if p.requantised else 1)
        sizes = {
            "x": self.pixels.images * of_image,
            p.format.code_part: Number(p.window.groups * p.strips), "bias": Number(p.outputs),
            "y": rounded_up(number["images"], p.result_images) * self.pixels.of_image * outputs,
            "table": Number(len(p.program.table)),
        }  # fmt: skip
        sizes |= dict.fromkeys(channel_numbers(p), Number(p.outputs))
        sizes |= {role: Number(p.scale_rows if role != "zero_point" or p.group else 1)
                  for role in p.row_parts()}  # fmt: skip
        return {
            name: tile.ViewOp(value, sizes.get(name, Number(1)).value, value.type).view
            for name, value in given.items()
            if name not in NUMBERS
        }

    # ---- steps along K

    def step(self, at: Number, total: ir.Value) -> ir.Value:
        """`depth` columns of gathered windows."""
        p, s, pixels = self.problem, self.schedule, self.pixels
        assert isinstance(pixels, GatheredPixels)
        k = self.column(at)
        gathered, weights = pixels.brought(self.views["x"], k), self.weights(k)

        def product(at: Number, carried: list[ir.Value]) -> list[ir.Value]:
            windows, total = pixels.operand(gathered, at), carried[0]
            for sign, role in self.signs():
                total = self.accumulate(weights, windows, k, at, total, sign, role)
            return [total]

        return unroll([total], s.depth, chunk_columns(p.stored_group), product, "at_k")[0]

    def column(self, at: Number) -> Number:
        """The column of k that comes at a place of the loop."""
        p, s = self.problem, self.schedule
        taps = prod(p.window.taps)
        if not s.taps_inner or taps == 1:
            return at
        tap, chunk = at // s.depth % taps, at // (s.depth * taps)
        return (tap * p.window.channels + chunk * s.depth).named("column")

    def held_step(self, channel: Number, total: ir.Value) -> ir.Value:
        """All taps of `depth` channels of pixels that windows share."""
        p, s, pixels = self.problem, self.schedule, self.pixels
        assert isinstance(pixels, HeldPixels)
        taps, chunk = prod(p.window.taps), chunk_columns(p.stored_group)
        held, weights = pixels.brought(self.views["x"], channel), self.weights(channel, taps)

        def of_tap(tap: Number, carried: list[ir.Value]) -> list[ir.Value]:
            def product(at: Number, carried: list[ir.Value]) -> list[ir.Value]:
                windows, k = pixels.operand(held, tap, at), tap * s.depth + at
                return [self.accumulate(weights, windows, k, k, carried[0], "all", None)]

            return unroll(carried, s.depth, chunk, product, "at_k")

        return loop(Number(0), Number(taps), [total], 1, 0, of_tap, "tap")[0]

    # ---- weights

    def weights(self, k: Number, taps: int = 1) -> Values:
        """Shared tiles of `depth` columns from k on, by role; of that many under each tap."""
        p, s = self.problem, self.schedule
        strip, words = self.output // PACKET_ROWS, LANES * p.format.bits
        size = s.depth // PACKET_COLUMNS * words
        kind = shared([s.block_outputs // PACKET_ROWS, taps * size], "ui32")
        first, count = self.of_group * p.strips + strip, Number(p.strips) - strip
        jump = p.window.channels // PACKET_COLUMNS * words
        made: Values = {"codes": self.brought(
            p.format.code_part, first, k // PACKET_COLUMNS * words, count, kind,
            [size, jump] if taps > 1 and size != jump else [], whole_weights(p, s),
        )}  # fmt: skip
        column = (self.of_group * p.strips + strip) * PACKET_ROWS
        for role, element in p.row_parts().items():
            if p.group is None and role != "zero_point":
                continue
            kind = shared([held_groups(p, s.depth), s.block_outputs], element)
            row = k // p.stored_group if p.stored_group else Number(0)
            made[role] = self.brought(role, row, column, Number(p.scale_rows) - row, kind)
        return made

    def brought(
        self, name: str, first: Number, column: Number, count: Number, kind: ir.Type,
        pieces: list[int] | None = None, bulk: bool = False,
    ) -> ir.Value:  # fmt: skip
        return tile.RowsOp(
            self.views[name], first.value, column.value, count.value, text("normal"), kind,
            pieces=ir.DenseI64ArrayAttr.get(pieces or []), bulk=ir.BoolAttr.get(bulk),
        ).tile  # fmt: skip

    # ---- products

    def signs(self) -> list[tuple[str, str | None]]:
        """For each scale of a group, whom it serves; one without a role where rows have one."""
        fmt = self.problem.format
        if self.problem.group is None or not fmt.block_scales:
            return [("all", None)]
        return list(signed_scales(fmt))

    def accumulate(
        self, tiles: Values, windows: ir.Value, k: Number, at: Number, total: ir.Value, sign: str,
        role: str | None,
    ) -> ir.Value:  # fmt: skip
        p, s = self.problem, self.schedule
        chunk = tensor_of(windows.type).shape[2]
        row = self.scale_row(k, at)
        optional: Values = {}
        if "zero_point" in tiles:
            optional = {"zeros": tiles["zero_point"], "zero_column": row.value}
        if "table" in self.views:
            optional["table"] = self.views["table"]
        weights = tile.UnpackOp(
            tiles["codes"], (self.warp_output // PACKET_ROWS).value, at.value, Number(0).value,
            text(p.weight), text(sign), text("rows"), text("row"),
            fragment([s.warps, s.outputs, chunk], p.weight_operand, "a" if s.warp_groups else "b"),
            **optional,
        ).fragment  # fmt: skip
        part = total if role is None else fill(0.0, self.sums(self.part_type), "part")
        sides = (weights, windows) if s.warp_groups else (windows, weights)
        part = tile.MultiplyOp(
            *sides, part, Number(0).value, text(s.instruction(p)), part.type
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
        element, s = str(tensor_of(stored.type).element_type), self.schedule
        kind = [s.warps, s.outputs]
        taken = tile.ColumnsOp(
            stored, row.value, self.warp_output.value, text("row"),
            fragment(kind, element, "columns"),
        ).vector  # fmt: skip
        label(taken, "stored_factor")
        decoded = Epilogue(self.problem, s, self.views, self.output, self.of_group).decoded
        kind = fragment(kind, "f32", "columns")
        return each([taken], kind, lambda x: decoded(x, role), "factor")

    # ---- the end

    def save(self, results: ir.Value) -> None:
        p, s = self.problem, self.schedule
        output = self.output + self.warp_output
        if s.warp_groups:
            element = str(tensor_of(results.type).element_type)
            kind = fragment([s.warps, s.pixels, s.outputs], element, "c")
            results = label(tile.TurnOp(results, kind).result, "turned")
        block = p.result_block or p.outputs
        row, limit, rectangle = self.pixels.place()
        bits = 4 if per_element(p.result) > 1 else {"f32": 32, "i8": 8}.get(p.result, 16)
        tile.SaveImageOp(
            results, self.views["y"], row.value, limit.value,
            (self.of_group * p.window.outputs + output).value,
            (Number(p.window.outputs) - output).value, self.pixels.of_image.value,
            whole(p.outputs), whole(block), whole(p.images), whole(p.result_images),
            whole(s.width), whole(bits), text(self.store(block)), **rectangle,
        )  # fmt: skip

    def store(self, block: int) -> str:
        if self.schedule.packs:
            return "words"
        together = block % 2 == 0 and self.problem.window.outputs % 2 == 0
        return "pairs" if together else "each"

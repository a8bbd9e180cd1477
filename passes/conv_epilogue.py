"""What becomes of the sums of a convolution: scales, bias, relu, one rounding to the result."""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects import tile
from ..dialects.bindings import arith, ir, math
from ..dialects.formats.packets import PACKET_ROWS
from ..dialects.tile.conv_problem import ConvProblem
from ..dialects.tile.conv_schedule import ConvSchedule
from ..dialects.tile.dialect import tensor_of
from .tile_builder import Number, each, fragment, position, single, text

Values = dict[str, ir.Value]


@dataclass
class Epilogue:
    """`output` is the first output of this warp in group `of_group`."""

    problem: ConvProblem
    schedule: ConvSchedule
    views: Values
    output: Number
    of_group: Number

    def results(self, total: ir.Value, sum_type: str) -> ir.Value:
        p, s = self.problem, self.schedule
        inputs, steps = [total], []
        if p.group is None:
            for role in p.row_scales():
                inputs.append(self.per_channel(role))
                steps.append("times")
        if p.bias is not None:
            inputs.append(self.bias())
            steps.append("plus")

        def finished(value: ir.Value, *others: ir.Value) -> ir.Value:
            if sum_type == "i32":
                value = arith.sitofp(ir.F32Type.get(), value)
            if p.group is None and not p.row_scales() and p.program.factor != 1:
                value = arith.mulf(value, single(p.program.factor))
            for other, step in zip(others, steps, strict=True):
                if step == "plus":
                    value = self.of_tensor(value)
                    value = arith.addf(value, other)
                else:
                    value = arith.mulf(value, other)
            value = value if "plus" in steps else self.of_tensor(value)
            return self.narrowed(value)

        element = "i8" if p.requantised else p.result
        kind = fragment([s.warps, s.pixels, s.outputs], element, "c")
        return each(inputs, kind, finished, "results")

    def of_tensor(self, value: ir.Value) -> ir.Value:
        """Times the scales of the whole weight, and of the images."""
        p = self.problem
        for role in [*p.tensor_factors(), *(["x_scale"] * ("x_scale" in self.views))]:
            factor = self.number(role)
            decoding = p.x_scale if role == "x_scale" else p.format.scale_decoding(role)
            value = arith.divf(value, factor) if decoding.divide else arith.mulf(value, factor)
        return value

    def number(self, role: str) -> ir.Value:
        return tile.ElementOp(self.views[role], Number(0).value, ir.F32Type.get()).element

    def narrowed(self, value: ir.Value) -> ir.Value:
        """Below, the arithmetic is that of the encoders (dialects/rounding)."""
        p = self.problem
        if p.relu:
            value = arith.maxnumf(value, single(0.0))
        rounding = p.rounding
        if rounding is None:
            return value if p.result == "f32" else arith.truncf(ir.Type.parse(p.result), value)
        scale = self.number("y_scale")
        value = arith.mulf(value, scale) if rounding.multiplies else arith.divf(value, scale)
        value = arith.maxnumf(math.roundeven(value), single(float(rounding.low)))
        value = arith.minnumf(value, single(float(rounding.high)))
        return arith.fptosi(ir.IntegerType.get_signless(8), value)

    def decoded(self, stored: ir.Value, role: str) -> ir.Value:
        """A stored scale as fp32, with the factor of the decode program."""
        p = self.problem
        decoding, factor = p.format.scale_decoding(role), p.program.factor
        value = tile.ScaleOp(stored, text(decoding.kind), ir.F32Type.get()).value
        if decoding.divide:
            return arith.divf(single(factor), value)
        return value if factor == 1 else arith.mulf(value, single(factor))

    def per_channel(self, role: str) -> ir.Value:
        """Scales of this warp's outputs, from global memory."""
        p, view = self.problem, self.views[role]
        stored, element = p.strips * PACKET_ROWS, tensor_of(view.type).element_type

        def read() -> ir.Value:
            row = (Number(position("column")) + self.output).least(stored - 1)
            at = self.of_group * stored + row
            return self.decoded(tile.ElementOp(view, at.value, element).element, role)

        return each([], self.per_output(), read, "factor")

    def bias(self) -> ir.Value:
        p, view = self.problem, self.views["bias"]
        element = tensor_of(view.type).element_type

        def read() -> ir.Value:
            row = (Number(position("column")) + self.output).least(p.window.outputs - 1)
            at = self.of_group * p.window.outputs + row
            value = tile.ElementOp(view, at.value, element).element
            return value if p.bias == "f32" else arith.extf(ir.F32Type.get(), value)

        return each([], self.per_output(), read, "bias_of_output")

    def per_output(self) -> ir.Type:
        return fragment([self.schedule.warps, self.schedule.outputs], "f32", "columns")

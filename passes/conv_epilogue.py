"""What becomes of the sums of a convolution: scales, bias, relu, one rounding to the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ..dialects import tile
from ..dialects.bindings import arith, ir, math
from ..dialects.formats.packets import PACKET_ROWS
from ..dialects.tile.conv_ending import Ending
from ..dialects.tile.conv_problem import ConvProblem
from ..dialects.tile.conv_schedule import ConvSchedule
from ..dialects.tile.dialect import tensor_of
from ..dialects.tile.integer_activations import Requantisation
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
            inputs.append(self.by_channel("bias"))
            steps.append("plus")
        factors = len(steps)
        inputs += self.of_channels()
        inverses = self.inverses()
        inputs += inverses.values()

        def finished(value: ir.Value, *others: ir.Value) -> ir.Value:
            given = dict(zip(inverses, others[len(others) - len(inverses) :], strict=True))
            if sum_type == "i32":
                value = arith.sitofp(ir.F32Type.get(), value)
            unscaled = not (p.format.block_scales if p.group else p.row_scales())
            if unscaled and p.program.factor != 1:
                value = arith.mulf(value, single(p.program.factor))
            for other, step in zip(others[:factors], steps, strict=True):
                if step == "plus":
                    value = self.of_tensor(value, given)
                    value = arith.addf(value, other)
                else:
                    value = arith.mulf(value, other)
            value = value if "plus" in steps else self.of_tensor(value, given)
            if p.ending is not None:
                channels = others[factors : len(others) - len(inverses)]
                value = ended(p.ending, value, channels)
            return self.narrowed(value, given)

        element = "i8" if p.requantised else p.result
        return each(inputs, fragment(results_shape(s), element, "c"), finished, "results")

    def inverses(self) -> Values:
        """Reciprocals of what results are divided by: one division, not one for each of them."""
        p, rounding = self.problem, self.problem.rounding
        roles = ["x_scale"] * (p.integer and p.x_scale.divide)
        roles += ["y_scale"] * (rounding is not None and not rounding.multiplies)
        one = fragment([self.schedule.warps], "f32", "one")
        return {
            role: each([], one, partial(self.inverse, role), f"inverse_{role}") for role in roles
        }

    def inverse(self, role: str) -> ir.Value:
        return arith.divf(single(1.0), self.number(role))

    def of_tensor(self, value: ir.Value, inverses: Values) -> ir.Value:
        """Times the scales of the whole weight, and of the images."""
        p = self.problem
        for role in p.tensor_factors():
            decoding, factor = p.format.scale_decoding(role), self.number(role)
            if decoding.kind != "fp32":
                factor = tile.ScaleOp(factor, text(decoding.kind), ir.F32Type.get()).value
            value = arith.divf(value, factor) if decoding.divide else arith.mulf(value, factor)
        if "x_scale" not in self.views:
            return value
        return arith.mulf(value, inverses.get("x_scale") or self.number("x_scale"))

    def number(self, role: str) -> ir.Value:
        view = self.views[role]
        kind = tensor_of(view.type).element_type
        return tile.ElementOp(view, Number(0).value, kind).element

    def narrowed(self, value: ir.Value, inverses: Values) -> ir.Value:
        """Below, the arithmetic is that of the encoders (dialects/rounding)."""
        p = self.problem
        if p.relu:
            value = arith.maxnumf(value, single(0.0))
        rounding = p.rounding
        if rounding is None:
            return value if p.result == "f32" else arith.truncf(ir.Type.parse(p.result), value)
        scale = self.number("y_scale")
        if rounding.multiplies:
            value = arith.mulf(value, scale)
        else:
            value = divided(value, scale, inverses["y_scale"], rounding)
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
            row = (Number(position(self.axis)) + self.output).least(stored - 1)
            at = self.of_group * stored + row
            return self.decoded(tile.ElementOp(view, at.value, element).element, role)

        return each([], self.per_output(), read, "factor")

    def by_channel(self, name: str) -> ir.Value:
        """Numbers of this warp's outputs, in fp32."""
        p, view = self.problem, self.views[name]
        element = tensor_of(view.type).element_type

        def read() -> ir.Value:
            row = (Number(position(self.axis)) + self.output).least(p.window.outputs - 1)
            at = self.of_group * p.window.outputs + row
            value = tile.ElementOp(view, at.value, element).element
            return value if str(element) == "f32" else arith.extf(ir.F32Type.get(), value)

        return each([], self.per_output(), read, f"{name}_of_output")

    def of_channels(self) -> list[ir.Value]:
        """What the ending reads of each output: computed once, not for every pixel."""
        ending = self.problem.ending
        if ending is None:
            return []
        names = channel_numbers(self.problem)
        numbers = [self.by_channel(name) for name in names]
        made = []
        for value in ending.of_channels:
            if value <= ending.channels:
                made.append(numbers[value - 1])
                continue

            def body(*given: ir.Value, value: int = value) -> ir.Value:
                return evaluated(ending, value, dict(enumerate(given, 1)))

            made.append(each(numbers, self.per_output(), body, "of_channel"))
        return made

    def per_output(self) -> ir.Type:
        return fragment([self.schedule.warps, self.schedule.outputs], "f32", f"{self.axis}s")

    @property
    def axis(self) -> str:
        """Along which outputs lie in a fragment of sums."""
        return "row" if self.schedule.warp_groups else "column"


def results_shape(schedule: ConvSchedule) -> list[int]:
    """Of a fragment of sums: the side that is decoded is the left one of warp groups."""
    s = schedule
    sides = (s.outputs, s.pixels) if s.warp_groups else (s.pixels, s.outputs)
    return [s.warps, *sides]


def divided(
    value: ir.Value, scale: ir.Value, inverse: ir.Value, rounding: Requantisation
) -> ir.Value:
    """
    value / scale, as division rounds it where that matters, by the reciprocal of the scale.

    What lies beyond the ends is cut off first, as it would be after rounding, so nothing overflows.
    A quotient by the rounded reciprocal and one correction by the exact remainder is the rounded
    quotient (Markstein 1990).
    """
    ends = (arith.mulf(scale, single(float(end)))
            for end in (rounding.low - 1, rounding.high + 1))  # fmt: skip
    bounded = arith.minnumf(arith.maxnumf(value, next(ends)), next(ends))
    quotient = arith.mulf(bounded, inverse)
    rest = math.fma(arith.negf(quotient), scale, bounded)
    return math.fma(rest, inverse, quotient)


def channel_numbers(problem: ConvProblem) -> list[str]:
    """The arguments that hold a number for each output channel, for the ending."""
    return [f"channel{i}" for i in range(problem.ending.channels if problem.ending else 0)]


def ended(ending: Ending, value: ir.Value, of_channels: Sequence[ir.Value]) -> ir.Value:
    """The steps of an ending as scalar ops, in fp32 again at the end."""
    if ending.result != "f32":
        value = arith.truncf(ir.Type.parse(ending.result), value)
    known = {0: value, **dict(zip(ending.of_channels, of_channels, strict=True))}
    found, f32 = evaluated(ending, ending.value, known), ir.F32Type.get()
    return found if found.type == f32 else arith.extf(f32, found)


def evaluated(ending: Ending, value: int, known: dict[int, ir.Value]) -> ir.Value:
    """A value of an ending, and those that it is made of, as scalar ops."""
    if value in known:
        return known[value]
    step = ending.steps[value - 1 - ending.channels]
    operands = [evaluated(ending, each_, known) for each_ in step.operands]
    kind = ir.Type.parse(step.type)
    if step.operation == "arith.constant":
        known[value] = arith.constant(kind, step.attribute or 0.0)
    elif step.operation == "arith.cmpf":
        known[value] = arith.cmpf(step.attribute, *operands)
    else:
        made = ir.Operation.create(step.operation, results=[kind], operands=operands)
        known[value] = made.results[0]
    return known[value]

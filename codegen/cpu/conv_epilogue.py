"""
What becomes of a convolution's sums before they are stored: the elementwise op that reads them.

    %y = qcc.conv2d %x, %w; %z = linalg.generic(%y, by channel, images) {scale, add, clamp}
      =>  kernel(&x, &z, …, &by channel, &images)

Exactly the op's arithmetic. Its steps have stages: constants and values of a channel are computed
once for a panel, a lane a channel; then what sums become, in the same lanes; and last, with columns
side by side as they are stored, what other images join.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.formats.panels import PANEL_ROWS
from .call_site import replace_op
from .emit import LANES, Ptr, Val, broadcast, f32, lanes
from .library import Arguments

CONSTANT, CHANNEL, SUM, IMAGE = range(4)
"""Stages of a value: the latest of those of its operands."""
BINARY = ("addf", "subf", "mulf", "divf", "maximumf", "minimumf", "maxnumf", "minnumf")
STEPS = {
    *(f"arith.{name}" for name in (*BINARY, "negf", "cmpf", "select", "truncf", "extf")),
    *("math.sqrt", "math.absf"),
}
FLOATS = ("f32", "f64", "i1")


@dataclass(frozen=True, slots=True)
class Step:
    """An op on earlier values, by their numbers: inputs first, then steps."""

    name: str
    attributes: tuple[tuple[str, str], ...]
    operands: tuple[int, ...]
    element: str
    stage: int

    def emitted(self, operands: Sequence[Val], count: int) -> Val:
        """On vectors of `count` lanes, on single values if that is 0."""
        kind = ir.Type.parse(self.element)
        given = [self._spread(operand, count) for operand in operands]
        attributes = {name: ir.Attribute.parse(text) for name, text in self.attributes}
        result = lanes(kind, count) if count else kind
        made = ir.Operation.create(self.name, [result], [v.ssa for v in given], attributes)
        return Val(made.results[0])

    @staticmethod
    def _spread(value: Val, count: int) -> Val:
        single = not isinstance(value.type, ir.VectorType)
        return broadcast(value, count) if count and single else value


@dataclass(frozen=True, slots=True)
class Epilogue:
    """`stages` of the inputs, of which the first are the sums; the number of the result."""

    stages: tuple[int, ...] = (SUM,)
    steps: tuple[Step, ...] = ()
    result: int = 0

    @property
    def arrays(self) -> int:
        return len(self.stages) - 1

    @property
    def joined(self) -> list[int]:
        """Values of earlier stages, other than constants, that the last one reads or stores."""
        stages = [*self.stages, *(step.stage for step in self.steps)]
        last = [step.operands for step in self.steps if step.stage == IMAGE]
        read = dict.fromkeys([number for each in last for number in each] + [self.result])
        return [number for number in read if stages[number] in (CHANNEL, SUM)]


PLAIN = Epilogue()


class Finish:
    """Emission of an epilogue, whose arrays are arguments from `first` on."""

    def __init__(self, epilogue: Epilogue, arguments: Arguments, first: int) -> None:
        self._e = epilogue
        places = range(first, first + epilogue.arrays)
        self.arrays = [arguments.address(place, f32()) for place in places]

    def of_channels(self, sixteen: Callable[[Ptr], Val]) -> dict[int, Val]:
        """Constants and the values of a panel's channels, of which `sixteen` reads an array's."""
        held = {
            index: sixteen(self.arrays[index - 1])
            for index, stage in enumerate(self._e.stages)
            if stage == CHANNEL
        }
        self._run(held, CONSTANT, 0)
        return self._run(held, CHANNEL, PANEL_ROWS)

    def of_sums(self, held: dict[int, Val], sums: Val) -> Val:
        """What the sums of a panel's channels become: stored, or joined with images."""
        return self._run({**held, 0: sums}, SUM, PANEL_ROWS)[self._e.joined[0]]

    def of_images(self, held: dict[int, Val], value: Val, image: Callable[[Ptr], Val]) -> Val:
        """What is stored for neighbouring columns, of which `image` reads an array's."""
        values = {**held, self._e.joined[0]: value}
        for index, stage in enumerate(self._e.stages):
            if stage == IMAGE:
                values[index] = image(self.arrays[index - 1])
        return self._run(values, IMAGE, LANES)[self._e.result]

    def _run(self, values: dict[int, Val], stage: int, count: int) -> dict[int, Val]:
        for number, step in enumerate(self._e.steps, len(self._e.stages)):
            if step.stage == stage:
                values[number] = step.emitted([values[at] for at in step.operands], count)
        return values


@dataclass(frozen=True, slots=True)
class Ending:
    """The only op that reads a convolution, as an epilogue, and its arrays; or none."""

    op: ir.Operation | None = None
    epilogue: Epilogue = PLAIN
    arrays: Sequence[ir.Value] = ()


def take_ending(op: qcc.Conv2dOp) -> Ending:
    """What can be computed in the kernel of `op`, which moves to where that is defined."""
    found = _found(op)
    if found is None:
        return Ending()
    assert found.op is not None
    op.operation.move_before(found.op)
    return found


def replace_ended(op: qcc.Conv2dOp, ending: Ending, value: ir.Value) -> None:
    """Let `value` stand for the last result of `op` and its ending."""
    if ending.op is None:
        replace_op(op, value)
    else:
        replace_op(ending.op.opview, value)
        op.operation.erase()


def _found(op: qcc.Conv2dOp) -> Ending | None:
    uses = list(op.result.uses)
    if len(uses) != 1 or uses[0].owner.operation.name != "linalg.generic":
        return None
    generic, first = uses[0].owner.operation, uses[0].operand_number
    inputs = list(generic.operands)[:-1]
    if len(generic.results) != 1 or generic.results[0].type != op.result.type:
        return None
    if _axes(generic, len(inputs)) != [0, 1, 2, 3]:
        return None
    stages = [_stage(generic, number, op) for number in range(len(inputs))]
    body = generic.regions[0].blocks[0]
    if None in stages or first >= len(inputs) or list(body.arguments[len(inputs)].uses):
        return None
    order = [first, *(number for number in range(len(inputs)) if number != first)]
    known = tuple(SUM if number == first else stages[number] or 0 for number in order)
    epilogue = _Reading(known, [body.arguments[number] for number in order]).epilogue(body)
    if epilogue is None or len(epilogue.joined) != 1:
        return None
    return Ending(generic, epilogue, [inputs[number] for number in order[1:]])


def _stage(generic: ir.Operation, number: int, op: qcc.Conv2dOp) -> int | None:
    """By how an input is indexed: as the result is, or by its channel alone."""
    type_ = ir.RankedTensorType(generic.operands[number].type)
    if not isinstance(type_.element_type, ir.F32Type):
        return None
    axes = _axes(generic, number)
    moving = [axis for axis, extent in zip(axes, type_.shape, strict=True) if extent != 1]
    every = [axis for axis, extent in enumerate(type_.shape) if extent != 1]
    if type_ == op.result.type and moving == every:
        return IMAGE
    return CHANNEL if moving == [1] else None


def _axes(generic: ir.Operation, number: int) -> list[int | None]:
    """The loop that indexes each axis of an operand, None for no loop."""
    maps: Any = generic.attributes["indexing_maps"]
    results = maps[number].value.results
    return [each.position if isinstance(each, ir.AffineDimExpr) else None for each in results]


class _Reading:
    """The ops of a body as steps."""

    def __init__(self, stages: tuple[int, ...], arguments: Sequence[ir.Value]) -> None:
        self._stages, self._steps = stages, list[Step]()
        self._numbers = {argument: number for number, argument in enumerate(arguments)}

    def epilogue(self, body: ir.Block) -> Epilogue | None:
        *ops, last = (each.operation for each in body.operations)
        for op in ops:
            if op.name not in STEPS or not self._add(op):
                return None
        result = self._number(last.operands[0])
        return None if result is None else Epilogue(self._stages, tuple(self._steps), result)

    def _add(self, op: ir.Operation) -> bool:
        numbers = [self._number(operand) for operand in op.operands]
        known = tuple(number for number in numbers if number is not None)
        stages = [*self._stages, *(step.stage for step in self._steps)]
        if len(known) < len(numbers) or str(op.results[0].type) not in FLOATS:
            return False
        self._note(op, known, max(stages[number] for number in known))
        return True

    def _note(self, op: ir.Operation, operands: tuple[int, ...], stage: int) -> int:
        attributes = tuple((name, str(op.attributes[name])) for name in op.attributes)
        element = str(op.results[0].type)
        number = len(self._stages) + len(self._steps)
        self._steps.append(Step(op.name, attributes, operands, element, stage))
        self._numbers[op.results[0]] = number
        return number

    def _number(self, value: ir.Value) -> int | None:
        if value in self._numbers:
            return self._numbers[value]
        owner = value.owner
        if isinstance(owner, ir.Block) or owner.name != "arith.constant":
            return None
        return self._note(owner, (), CONSTANT)

"""A block of operations as a list of steps over numbered values, made once and run often."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ..bindings import Operation, Value, ir
from ..errors import UnsupportedError
from ..source_line import source_line


@dataclass(frozen=True, slots=True)
class Step:
    """
    One operation: the numbers of what it takes and gives.

    `reads` are its operands and whatever its regions read from outside; `frees` are the values of
    this block that nothing reads after it.
    """

    name: str
    op: Any
    operands: tuple[int, ...]
    results: tuple[int, ...]
    blocks: tuple["Code", ...]
    reads: frozenset[int]
    frees: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Code:
    """The one block of a region: its arguments, its steps, and what its terminator hands on."""

    arguments: tuple[int, ...]
    steps: tuple[Step, ...]
    yields: tuple[int, ...]
    outside: frozenset[int]

    @property
    def own_yields(self) -> list[int]:
        """The yielded values that the block itself defines."""
        return [value for value in self.yields if value not in self.outside]


@dataclass(slots=True)
class Numbering:
    """Numbers of the values of one function."""

    numbers: dict[Value, int] = field(default_factory=dict)

    def __call__(self, value: Value) -> int:
        return self.numbers.setdefault(value, len(self.numbers))


def compile_region(region: ir.Region, number: Numbering) -> Code:
    """The code of a region; raises UnsupportedError unless it is one block."""
    blocks = list(region.blocks)
    if len(blocks) != 1:
        owner = region.owner.operation
        raise UnsupportedError(
            "interpreter-control-flow",
            f"{owner.name} has {len(blocks)} blocks; the interpreter runs structured code",
            where=place(owner),
            next_step="raise the branches to scf first",
        )
    block = blocks[0]
    operations = [op.operation for op in block.operations]
    arguments = tuple(number(argument) for argument in block.arguments)
    steps = list(parameters_late([make_step(op, number) for op in operations[:-1]]))
    yields = tuple(number(value) for value in operations[-1].operands)
    inside = {*arguments, *(result for step in steps for result in step.results)}
    reads = frozenset(yields).union(*(step.reads for step in steps))
    steps = tuple(with_frees(steps, inside, frozenset(yields)))
    return Code(arguments, steps, yields, reads - inside)


def parameters_late(steps: list[Step]) -> Iterator[Step]:
    """
    The steps, with reading and decoding parameters put off until something needs them.

    A program names all its parameters first; executed there, a model would lie decoded in memory
    as a whole.
    """
    waiting: dict[int, Step] = {}

    def made(values: Iterable[int]) -> Iterator[Step]:
        for value in sorted(values):
            step = waiting.pop(value, None)
            if step is not None:
                yield from made(step.reads)
                yield step

    for step in steps:
        decodes = step.name == "qcc.dequantize" and step.reads <= waiting.keys()
        if step.name == "qcc.param" or decodes:
            waiting[step.results[0]] = step
        else:
            yield from made(step.reads)
            yield step
    yield from made(waiting)


def make_step(op: Operation, number: Numbering) -> Step:
    operands = tuple(number(value) for value in op.operands)
    results = tuple(number(value) for value in op.results)
    blocks = tuple(compile_region(region, number) for region in op.regions)
    reads = frozenset(operands).union(*(block.outside for block in blocks))
    return Step(op.name, op, operands, results, blocks, reads)


def with_frees(steps: list[Step], inside: set[int], kept: frozenset[int]) -> Iterator[Step]:
    """The steps, each knowing which values of the block die with it."""
    last: dict[int, int] = {}
    for position, step in enumerate(steps):
        for value in step.reads | set(step.results):
            last[value] = position
    dying: dict[int, list[int]] = {}
    for value, position in last.items():
        if value in inside and value not in kept:
            dying.setdefault(position, []).append(value)
    for position, step in enumerate(steps):
        yield replace(step, frees=tuple(dying.get(position, ())))


def place(op: Operation) -> str:
    """The source line of an operation."""
    return source_line(op.location)

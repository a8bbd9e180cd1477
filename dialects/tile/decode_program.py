"""
Decode programs: how registers of operands are made of packed codes, as data.

A program takes the words of one *unit* of a packet (dialects/formats/packets.py), the fewest that
give whole steps of a matrix instruction, and makes its registers in stored order. It is a list of
operations on 32-bit registers that every machine since sm_80 has as one instruction each: NumPy
runs it over all codes as a proof, and the emitter prints it.

    value of a code = factor * element       factor goes into the scale
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats.packets import PacketOrder, WordPlane, word_planes
from .operand_types import OperandType

Word = NDArray[np.uint32]
Source = str | int  # a value by name, or a constant
TABLE_STRIDE = 7  # log2 of the bytes from one entry of a shared table to the next: one for a bank

AND_XOR = 0x6A  # (a & b) ^ c
AND_OR = 0xEA  # (a & b) | c


@dataclass(frozen=True, slots=True)
class Step:
    """`result` = `operation`(sources): see `MEANINGS`."""

    result: str
    operation: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Offset:
    """An argument of a program with zero points: `base + times * zero point`, in every element."""

    base: float
    times: int


@dataclass(frozen=True, slots=True)
class DecodeProgram:
    """
    Words `w0`, `w1`, … (plane by plane) to the registers `outputs` of one unit.

    With zero points, register r also reads `offset<i>_<h>` for each of `offsets`, h being the
    half of the packet's rows that r belongs to. `table` is what shared memory holds for `lookup`.
    `error` is the largest relative error of factor * element, 0 where it is exact.
    """

    rule: str
    order: PacketOrder
    bits: int
    operand: OperandType
    registers: int
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    factor: float
    offsets: tuple[Offset, ...] = ()
    table: tuple[int, ...] = ()
    error: float = 0.0

    @property
    def units(self) -> int:
        """Units of a packet."""
        return self.order.registers // self.registers

    @property
    def planes(self) -> tuple[WordPlane, ...]:
        return word_planes(self.order, self.bits)

    def unit_words(self, unit: int) -> list[tuple[WordPlane, int]]:
        """The plane and the index in it of each word of a unit."""
        words = []
        for plane in self.planes:
            count = self.registers // plane.registers
            words += [(plane, unit * count + index) for index in range(count)]
        return words

    def place(self, plane: WordPlane, register: int, element: int) -> tuple[str, int]:
        """The input that holds this plane's part of a code, and the bit where it begins."""
        word, bit = plane.place(register, element)
        return f"w{self.unit_words(0).index((plane, word))}", bit


class Builder:
    """Collects steps; the same operation on the same sources is done once."""

    def __init__(self, order: PacketOrder, bits: int, operand: OperandType) -> None:
        planes = word_planes(order, bits)
        self.registers = max(4, *(plane.registers for plane in planes))
        self.empty = DecodeProgram("", order, bits, operand, self.registers, (), (), 1.0)
        self._steps: dict[tuple[str, tuple[Source, ...]], Step] = {}

    def __call__(self, operation: str, *sources: Source) -> str:
        key = operation, sources
        if key not in self._steps:
            self._steps[key] = Step(f"t{len(self._steps)}", operation, sources)
        return self._steps[key].result

    def has(self, operation: str, *sources: Source) -> bool:
        return (operation, sources) in self._steps

    def moved(self, word: str, distance: int) -> str:
        """The word shifted right by `distance` bits, left if it is negative."""
        if distance == 0:
            return word
        if distance > 0:
            return self("shift_right", word, distance)
        return self("shift_left", word, -distance)

    def finished(self, rule: str, outputs: Sequence[str], **fields: Any) -> DecodeProgram:
        base = self.empty
        steps = tuple(self._steps.values())
        return DecodeProgram(
            rule, base.order, base.bits, base.operand, base.registers, steps, tuple(outputs),
            **fields,
        )  # fmt: skip


@dataclass(slots=True)
class Machine:
    """Runs programs on arrays of words."""

    program: DecodeProgram
    values: dict[str, Word] = field(default_factory=dict)

    def run(self, inputs: Mapping[str, Word]) -> list[Word]:
        """The registers of a unit, from arrays that broadcast."""
        self.values = dict(inputs)
        for step in self.program.steps:
            sources = [self._value(source) for source in step.sources]
            self.values[step.result] = MEANINGS[step.operation](self, *sources)
        return [self.values[name] for name in self.program.outputs]

    def _value(self, source: Source) -> Word:
        return self.values[source] if isinstance(source, str) else np.array(source, np.uint32)

    def arithmetic(self, operation: Callable[..., Any], *registers: Word) -> Word:
        operand = self.program.operand
        shaped = np.broadcast_arrays(*registers)
        with np.errstate(over="ignore", invalid="ignore"):
            exact = operation(*(operand.split(register) for register in shaped))
            return operand.joined(operand.rounded(exact))


def _lop3(_: Machine, a: Word, b: Word, c: Word, table: Word) -> Word:
    result = np.zeros(np.broadcast_shapes(a.shape, b.shape, c.shape), np.uint32)
    for row in range(8):
        if int(table) >> row & 1:
            terms = [
                each if row >> place & 1 else ~each for each, place in ((a, 2), (b, 1), (c, 0))
            ]
            result = result | (terms[0] & terms[1] & terms[2])
    return result


def _permute(_: Machine, a: Word, b: Word, selector: Word) -> Word:
    """prmt without sign replication: byte i of the result is byte (selector >> 4i) & 7 of b:a."""
    a, b, selector = np.broadcast_arrays(a, b, selector)
    both = np.concatenate(
        [np.ascontiguousarray(each, "<u4")[..., None].view(np.uint8) for each in (a, b)], axis=-1
    )
    nibbles = (selector[..., None] >> (4 * np.arange(4, dtype=np.uint32))) & 0xF
    if (nibbles > 7).any():
        raise ValueError("a selector of permute has its replication bit set")
    picked = np.take_along_axis(both, nibbles.astype(np.intp), axis=-1)
    return np.ascontiguousarray(picked).view("<u4")[..., 0]


def _lookup(machine: Machine, offset: Word) -> Word:
    return np.array(machine.program.table, np.uint32)[offset >> np.uint32(TABLE_STRIDE)]


MEANINGS: dict[str, Callable[..., Word]] = {
    "and": lambda _, a, b: a & b,
    "xor": lambda _, a, b: a ^ b,
    "subtract": lambda _, a, b: a - b,
    "shift_right": lambda _, a, count: a >> count,
    "shift_left": lambda _, a, count: a << count,
    "lop3": _lop3,
    "permute": _permute,
    "add": lambda machine, a, b: machine.arithmetic(np.add, a, b),
    "multiply": lambda machine, a, b: machine.arithmetic(np.multiply, a, b),
    "fma": lambda machine, a, b, c: machine.arithmetic(lambda x, y, z: x * y + z, a, b, c),
    "lookup": _lookup,
}
"""
What each operation does; `add`, `multiply`, `fma` work on the elements of the operand type, and
`lookup` takes an offset of bytes in the shared table: index << TABLE_STRIDE.
"""


def input_words(program: DecodeProgram, codes: NDArray[Any]) -> dict[str, Word]:
    """The words of one unit that hold codes [registers, e, ...]."""
    words = {f"w{index}": np.zeros(codes.shape[2:], np.uint32)
             for index in range(len(program.unit_words(0)))}  # fmt: skip
    for plane in program.planes:
        for register in range(program.registers):
            for element in range(program.order.per_register):
                word, bit = program.place(plane, register, element)
                part = (codes[register, element] >> plane.low) & ((1 << plane.bits) - 1)
                words[word] = words[word] | (part.astype(np.uint32) << np.uint32(bit))
    return words


def decode(
    program: DecodeProgram, codes: NDArray[Any], zeros: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Elements [registers, e, ...] of codes of that shape; zeros [2, ...] by half of the rows."""
    inputs = input_words(program, codes)
    operand = program.operand
    for index, offset in enumerate(program.offsets):
        assert zeros is not None
        for half in range(2):
            values = offset.base + offset.times * zeros[half].astype(np.float64)
            repeated = np.repeat(values[..., None], operand.per_register, axis=-1)
            inputs[f"offset{index}_{half}"] = operand.joined(repeated)
    registers = Machine(program).run(inputs)
    shape = np.broadcast_shapes(*(each.shape for each in registers))
    split = [operand.split(np.broadcast_to(each, shape)) for each in registers]
    return np.moveaxis(np.stack(split), -1, 1)

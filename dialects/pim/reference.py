"""
The NumPy meaning of a kernel of DPUs: bit-exact, for all DPUs at once.

A kernel is compiled to closures. A word is an int where all DPUs agree, else uint32 [dpus]. Each
tasklet runs up to a barrier, then the next does: the order that the model of the hardware least
restricts is tested by the emulators, not here. WRAM begins with garbage. Requests of DMA, their
bytes and lookups are counted for one DPU.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bindings import ir
from ..errors import UsageError
from ..regions import walk
from .dialect import element_of, elements, is_pim, scope_of
from .kernel import argument_names
from .lookup_tables import DTYPES

Array = NDArray[Any]
Word = Any
MASK = 0xFFFFFFFF
GARBAGE = 0xA5


@dataclass
class Counts:
    """What one DPU moved and looked up."""

    bytes_in: int = 0
    bytes_out: int = 0
    requests: int = 0
    lookups: int = 0
    products: int = 0


@dataclass
class _Tasklet:
    """One tasklet of all DPUs: its number, the values of ops by slot, buffers and arrays."""

    number: int
    values: list[Any]
    counts: Counts


Step = Callable[[_Tasklet], Any]


def run_kernel(kernel: Any, arrays: Mapping[str, Array], words: Mapping[str, int]) -> Counts:
    """
    Run a `pim.kernel` on arrays [dpus, elements…] by the names of its arguments; results are
    written into them. `words` are the values of arguments that are words.
    """
    program = _Program(kernel, arrays, words)
    running = [program.start(number) for number in range(kernel.tasklets.value)]
    while running:
        arrived = []
        for tasklet in running:
            if next(tasklet, "end") != "end":
                arrived.append(tasklet)
        running = arrived
    return program.counts


@dataclass
class _Program:
    """A kernel as closures over slots."""

    kernel: Any
    given: Mapping[str, Array]
    words: Mapping[str, int]
    slots: dict[Any, int] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        block = self.kernel.body.blocks[0]
        self.initial: dict[int, Any] = {}
        for name, argument in zip(argument_names(self.kernel), block.arguments, strict=True):
            self.initial[self.slot(argument)] = self.argument(name, argument.type)
        self.private: list[tuple[int, Any]] = []
        for op in walk(self.kernel):
            if op.operation.name == "pim.wram_alloc":
                self.allocate(op)
        self.steps, _ = self.block(block)

    def argument(self, name: str, type_: ir.Type) -> Any:
        if not is_pim(type_, "mram"):
            return self.words[name]
        array = self.given[name]
        want = np.dtype(DTYPES[element_of(type_)])
        flat = array.reshape(len(array), -1)
        if array.dtype != want or flat.shape[1] != elements(type_) or flat.base is None:
            raise UsageError(
                "pim-argument", f"{name} is {array.dtype}{array.shape[1:]} for each DPU",
                why=f"the kernel takes {type_}", next_step="lay it out as plan.py does",
            )  # fmt: skip
        self.dpus = len(array)
        return flat

    def allocate(self, op: Any) -> None:
        slot, type_ = self.slot(op.buffer), op.buffer.type
        if scope_of(type_) == "private":
            self.private.append((slot, type_))
        else:
            self.initial[slot] = self.garbage(type_)

    def garbage(self, type_: ir.Type) -> Array:
        dtype = np.dtype(DTYPES[element_of(type_)])
        raw = np.full((self.dpus, elements(type_) * dtype.itemsize), GARBAGE, np.uint8)
        return raw.view(dtype)

    def slot(self, value: Any) -> int:
        return self.slots.setdefault(value, len(self.slots))

    def start(self, number: int) -> Generator[None]:
        tasklet = _Tasklet(number, [None] * len(self.slots), self.counts)
        for slot, value in self.initial.items():
            tasklet.values[slot] = value
        for slot, type_ in self.private:
            tasklet.values[slot] = self.garbage(type_)
        return self.run(self.steps, tasklet)

    def run(self, steps: list[tuple[Step, bool]], tasklet: _Tasklet) -> Generator[None]:
        """Steps one after another; those that may wait are generators."""
        for step, waits in steps:
            if waits:
                yield from step(tasklet)
            else:
                step(tasklet)

    def block(self, block: Any) -> tuple[list[tuple[Step, bool]], list[int]]:
        """Steps of a block, and the slots of what it yields."""
        steps: list[tuple[Step, bool]] = []
        for op in block.operations:
            name = op.operation.name
            if name in ("pim.yield", "pim.return"):
                return steps, [self.slot(each) for each in op.operation.operands]
            if name == "pim.loop":
                steps.append(self.loop(op))
            elif name == "pim.barrier":
                steps.append((_barrier, True))
            elif name not in ("pim.wram_alloc", "pim.order"):
                steps.append((self.operation(op), False))
        return steps, []

    def loop(self, op: Any) -> tuple[Step, bool]:
        block, results = op.body.blocks[0], [self.slot(each) for each in op.operation.results]
        index, *carried = [self.slot(each) for each in block.arguments]
        first, last = self.slot(op.first), self.slot(op.last)
        initial, step = [self.slot(each) for each in op.initial], op.step.value
        steps, yielded = self.block(block)
        waits = any(each for _, each in steps)

        def begin(tasklet: _Tasklet) -> range:
            values = tasklet.values
            _move(values, initial, carried)
            return range(int(values[first]), int(values[last]), step)

        def plain(tasklet: _Tasklet) -> None:
            values = tasklet.values
            for i in begin(tasklet):
                values[index] = i
                for each, _ in steps:
                    each(tasklet)
                _move(values, yielded, carried)
            _move(values, carried, results)

        def waiting(tasklet: _Tasklet) -> Generator[None]:
            values = tasklet.values
            for i in begin(tasklet):
                values[index] = i
                yield from self.run(steps, tasklet)
                _move(values, yielded, carried)
            _move(values, carried, results)

        return (waiting, True) if waits else (plain, False)

    def operation(self, op: Any) -> Step:
        operands = [self.slot(each) for each in op.operation.operands]
        results = [self.slot(each) for each in op.operation.results]
        meaning = MEANINGS.get(op.operation.name)
        if meaning is None:
            raise UsageError("pim-op", f"{op.operation.name} has no meaning in a kernel of DPUs")
        compute = meaning(op)

        def step(tasklet: _Tasklet) -> None:
            values = tasklet.values
            made = compute(tasklet, *[values[each] for each in operands])
            if results:
                values[results[0]] = made

        return step


def _barrier(_: _Tasklet) -> Generator[None]:
    yield


def _move(values: list[Any], sources: list[int], targets: list[int]) -> None:
    moved = [values[each] for each in sources]
    for target, value in zip(targets, moved, strict=True):
        values[target] = value


def signed(word: Word) -> Any:
    """A word as a signed number."""
    if isinstance(word, int):
        return word - (1 << 32) if word >> 31 else word
    return word.view(np.int32)


def word_of(value: Any) -> Word:
    """A signed number, or numbers, as words."""
    if isinstance(value, int):
        return value & MASK
    return np.asarray(value).astype(np.int64).astype(np.uint32)


def _constant(op: Any) -> Any:
    value = ir.IntegerAttr(op.operation.attributes["value"]).value & MASK
    return lambda tasklet: value


def _binary(compute: Callable[[Word, Word], Word]) -> Callable[[Any], Any]:
    return lambda op: lambda tasklet, left, right: compute(left, right)


def _product(left: Word, right: Word) -> Word:
    if isinstance(left, int) and isinstance(right, int):
        return (left * right) & MASK
    return np.multiply(left, right, dtype=np.uint64).astype(np.uint32)


def _least(left: Word, right: Word) -> Word:
    both = isinstance(left, int) and isinstance(right, int)
    return min(left, right) if both else np.minimum(left, right).astype(np.uint32)


def _most(left: Word, right: Word) -> Word:
    both = isinstance(left, int) and isinstance(right, int)
    return max(left, right) if both else np.maximum(left, right).astype(np.uint32)


def _shifted_signed(value: Word, by: Word) -> Word:
    if isinstance(value, int) and isinstance(by, int):
        return word_of(signed(value) >> by)
    return word_of(np.asarray(signed(value), np.int64) >> np.asarray(by, np.int64))


def _leading_zeros(word: Word) -> Word:
    """32 of a word that is 0; doubles hold words exactly."""
    if isinstance(word, int):
        return 32 - word.bit_length()
    return (32 - np.frexp(word.astype(np.float64))[1]).astype(np.uint32)


def _place(buffer: Array, index: Word) -> tuple[Any, Any]:
    """Where an element is, in all DPUs."""
    if isinstance(index, int):
        return slice(None), index
    return np.arange(len(buffer)), index


def _read(buffer: Array, index: Word) -> Word:
    return buffer[_place(buffer, index)].astype(np.int64).astype(np.uint32)


def _load(op: Any) -> Any:
    shift = op.displacement.value
    return lambda tasklet, buffer, index: _read(buffer, index + shift)


def _store(op: Any) -> Any:
    shift = op.displacement.value

    def store(_: _Tasklet, element: Word, buffer: Array, index: Word) -> None:
        value = np.asarray(element, np.uint32).astype(buffer.dtype)
        buffer[_place(buffer, index + shift)] = value

    return store


def _lookup(op: Any) -> Any:
    stride, shift, reorder = op.stride.value, op.displacement.value, op.reorder is not None

    def lookup(
        tasklet: _Tasklet, total: Word, code: Word, table: Array, at: Word, *order: Any
    ) -> Word:
        tasklet.counts.lookups += 1
        if reorder:
            code = _read(order[0], order[1] + code)
        return (total + _read(table, at + code * stride + shift)) & MASK

    return lookup


def _mul8(op: Any) -> Any:
    shifts = [8 * (half.value == "high") for half in (op.left_byte, op.right_byte)]

    def multiply(tasklet: _Tasklet, *words: Word) -> Word:
        tasklet.counts.products += 1
        left, right = (
            (((np.asarray(word, np.uint32) >> by) & 0xFF) ^ 0x80).astype(np.int64) - 0x80
            for word, by in zip(words, shifts, strict=True)
        )
        return word_of(left * right)

    return multiply


def _dma_in(op: Any) -> Any:
    count = op.count.value

    def move(tasklet: _Tasklet, source: Array, offset: Word, buffer: Array, at: Word) -> None:
        tasklet.counts.requests += 1
        tasklet.counts.bytes_in += count * source.itemsize
        buffer[:, at : at + count] = _rows(source, offset, count)

    return move


def _dma_out(op: Any) -> Any:
    count = op.count.value

    def move(tasklet: _Tasklet, buffer: Array, at: Word, target: Array, offset: int) -> None:
        tasklet.counts.requests += 1
        tasklet.counts.bytes_out += count * target.itemsize
        target[:, offset : offset + count] = buffer[:, at : at + count]

    return move


def _rows(source: Array, offset: Word, count: int) -> Array:
    if isinstance(offset, int):
        return source[:, offset : offset + count]
    columns = offset.astype(np.int64)[:, None] + np.arange(count)
    return np.take_along_axis(source, columns, axis=1)


MEANINGS: dict[str, Callable[[Any], Any]] = {
    "arith.constant": _constant,
    "arith.addi": _binary(lambda a, b: (a + b) & MASK),
    "arith.subi": _binary(lambda a, b: (a - b) & MASK),
    "arith.muli": _binary(_product),
    "arith.shli": _binary(lambda a, b: (a << b) & MASK),
    "arith.shrui": _binary(lambda a, b: a >> b),
    "arith.shrsi": _binary(_shifted_signed),
    "arith.andi": _binary(lambda a, b: a & b),
    "arith.ori": _binary(lambda a, b: a | b),
    "arith.xori": _binary(lambda a, b: a ^ b),
    "arith.minui": _binary(_least),
    "arith.maxui": _binary(_most),
    "arith.divui": _binary(lambda a, b: a // b),
    "math.ctlz": lambda op: lambda tasklet, word: _leading_zeros(word),
    "pim.tasklet": lambda op: lambda tasklet: tasklet.number,
    "pim.load": _load,
    "pim.store": _store,
    "pim.lookup_accumulate": _lookup,
    "pim.mul8": _mul8,
    "pim.dma_in": _dma_in,
    "pim.dma_out": _dma_out,
}
"""For each op, what makes of an op the function of a tasklet and its operands."""

"""
Traces of a kernel without running it: issue slots counted from its ops (spec pim.md §2.2, §5).

An address that follows a loop costs one addition an iteration for each buffer, as compilers keep
pointers; a shift whose result is added is part of the addition (`lsl_add`); the end of a loop is
one slot, decrement and jump in one. A lookup is an address, a load and an addition; lookups of one
entry share the address. Loops of computation alone are multiplied out, all others are unrolled in
the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..bindings import ir
from .dialect import element_bytes
from .facts import constant_of
from .kernel import trip_count
from .timing import Event

ADDRESS_USERS = {"pim.load": (1,), "pim.store": (2,), "pim.lookup_accumulate": (3, 5)}
"""Operands of ops that are indices."""
SLOTS = {
    "pim.load": 1, "pim.store": 1, "pim.mul8": 1, "arith.constant": 0, "pim.tasklet": 0,
    "arith.maxui": 2, "arith.minui": 2, "arith.divui": 24, "math.ctlz": 1,
}  # fmt: skip
DMA_SLOTS = 6
"""Three of the instruction and its set-up (§2.2), three for addresses and length."""
BARRIER_SLOTS = 15
START_SLOTS = 40
REACH = 2048
"""
Bytes that a load reaches, on both sides of a register, in RV32, the machine that the model was
validated with. A DPU's loads reach all of WRAM, so kernels with large tables are a little faster
than counted.
"""

UNROLLED = 150
"""Slots of a loop that compilers write out: LLVM's threshold of full unrolling under -O2."""
DEEPEST = 16
"""Additions and shifts from a word to an address; a longer chain adds numbers."""
PLACES_IN_REGISTERS = 4
"""Of resident slices; what compilers for RV32 leave of 31 registers (benchmarks.pim --kernels)."""


@dataclass(frozen=True)
class Work:
    """Slots of computation."""

    slots: float


@dataclass(frozen=True)
class Move:
    """One request of DMA; `kind` is "read" or "write"."""

    kind: str
    size: int


@dataclass(frozen=True)
class Meet:
    """A barrier."""


@dataclass(frozen=True)
class Repeat:
    """A loop that moves data or waits."""

    index: Any
    first: Any
    last: Any
    step: int
    slots: float
    body: tuple[Any, ...]


Node = Work | Move | Meet | Repeat


def traces(kernel: Any) -> list[list[Event]]:
    """The trace of each tasklet, for the cycle model."""
    program = program_of(kernel.body.blocks[0])
    return [_trace(program, number) for number in range(kernel.tasklets.value)]


def program_of(block: Any) -> tuple[Node, ...]:
    """A block as nodes, neighbouring computation merged."""
    nodes: list[Node] = []
    for op in block.operations:
        for node in _nodes(op):
            if isinstance(node, Work) and nodes and isinstance(nodes[-1], Work):
                nodes[-1] = Work(nodes[-1].slots + node.slots)
            elif not isinstance(node, Work) or node.slots:
                nodes.append(node)
    far = _far_tables(block)
    return (*nodes, Work(far)) if far else tuple(nodes)


def _nodes(op: Any) -> list[Node]:
    name = op.operation.name
    if name == "pim.loop":
        return _loop(op)
    if name in ("pim.dma_in", "pim.dma_out"):
        array = op.source if name == "pim.dma_in" else op.target
        size = op.count.value * element_bytes(array.type)
        return [Work(DMA_SLOTS), Move("read" if name == "pim.dma_in" else "write", size)]
    if name == "pim.barrier":
        return [Work(BARRIER_SLOTS), Meet()]
    return [Work(slots_of(op))]


def slots_of(op: Any) -> float:
    """Issue slots of an op without regions."""
    name = op.operation.name
    if name in SLOTS:
        return SLOTS[name]
    if name == "pim.lookup_accumulate":
        if _shares_entry(op):
            return 2
        return 3 + (2 if op.reorder is not None else 0)
    if not name.startswith("arith."):
        return 0
    if _only_addresses(op.operation) or _part_of_addition(op.operation):
        return 0
    return 1


def _shares_entry(op: Any) -> bool:
    """Whether this is a further word of an entry whose address is known."""
    return op.stride.value > 1 and op.displacement.value > 0


def far_slots(places: Iterable[int]) -> int:
    """
    Additions for tables at these bytes of a buffer: one each up to the next window, one for all of
    a window further on.

    >>> far_slots([0, 1024, 2048, 3072, 4096, 5120, 6144, 7168, 8192])
    4
    """
    places = list(places)
    windows = {(each + REACH) // (2 * REACH) for each in places if each >= 2 * REACH}
    return len(windows) + sum(REACH <= each < 2 * REACH for each in places)


def _far_tables(block: Any) -> int:
    """The additions of a block for tables at constant places, beyond what loads reach."""
    places = []
    for op in block.operations:
        if op.operation.name == "pim.lookup_accumulate" and not _shares_entry(op):
            place = constant_of(op.at)
            if place is not None:
                places.append(place * element_bytes(op.table.type))
    return far_slots(places)


def _only_addresses(op: Any, steps: int = DEEPEST) -> bool:
    """Whether results are used as indices alone, directly or through others."""
    return steps > 0 and all(
        _is_address(use.owner, use.operand_number, steps) for use in op.results[0].uses
    )


def _is_address(user: Any, operand: int, steps: int) -> bool:
    name = user.operation.name
    if name in ADDRESS_USERS:
        return operand in ADDRESS_USERS[name]
    adds = name in ("arith.addi", "arith.muli", "arith.shli")
    return adds and _only_addresses(user.operation, steps - 1)


def _part_of_addition(op: Any) -> bool:
    if op.name != "arith.shli":
        return False
    uses = list(op.results[0].uses)
    return len(uses) == 1 and uses[0].owner.operation.name == "arith.addi"


def _loop(op: Any) -> list[Node]:
    body = program_of(op.body.blocks[0])
    trips = trip_count(op)
    if trips is not None and _is_unrolled(op, body, trips):
        inside = sum(node.slots for node in body if isinstance(node, Work))
        return [Work(trips * (inside - _forwarded(op)))]
    each = 0.0
    if op.unroll.value:
        each = (1 + _pointers(op)) / op.unroll.value
    if trips is not None and all(isinstance(node, Work) for node in body):
        inside = sum(node.slots for node in body if isinstance(node, Work)) + _reloads(op)
        return [Work(2 + trips * (inside + each))]
    index = op.body.blocks[0].arguments[0]
    return [Work(2), Repeat(index, op.first, op.last, op.step.value, each, body)]


def _is_unrolled(loop: Any, body: tuple[Node, ...], trips: int) -> bool:
    """Whether compilers leave no loop: computation alone, and little of it."""
    if not all(isinstance(node, Work) for node in body):
        return False
    return trips * sum(node.slots for node in body if isinstance(node, Work)) <= UNROLLED


def _forwarded(loop: Any) -> int:
    """
    Loads, in an unrolled loop, of what the straight code around it has just stored: compilers keep
    it in registers.
    """
    stored = set()
    for op in loop.operation.parent.regions[0].blocks[0].operations:
        if op.operation == loop.operation:
            break
        inner = op.body.blocks[0].operations if op.operation.name == "pim.loop" else (op,)
        stored |= {each.buffer for each in inner if each.operation.name == "pim.store"}
    own = {each.buffer for each in loop.body.blocks[0].operations
           if each.operation.name == "pim.store"}  # fmt: skip
    return sum(
        each.operation.name == "pim.load" and each.buffer in stored & own
        for each in loop.body.blocks[0].operations
    )


def _pointers(loop: Any) -> int:
    """Buffers whose address moves with the loop, in its own body."""
    index, found = loop.body.blocks[0].arguments[0], set()
    for op in loop.body.blocks[0].operations:
        name = op.operation.name
        if name in ("pim.load", "pim.store") and _depends(op.index, index):
            found.add(op.buffer)
    return len(found)


def _reloads(loop: Any) -> int:
    """
    Places of slices that do not stay in registers and are loaded in each iteration: those of
    resident tables are known only at run time, and there are more of them than registers to spare.
    """
    places = set()
    for op in loop.body.blocks[0].operations:
        if op.operation.name == "pim.lookup_accumulate":
            places |= {each for each in (op.at, op.reorder_at) if each is not None}
    known_late = [each for each in places if constant_of(each) is None]
    return max(0, len(known_late) - PLACES_IN_REGISTERS)


def _depends(value: Any, index: Any) -> bool:
    if value == index:
        return True
    owner = value.owner
    if isinstance(owner, ir.Block) or not owner.name.startswith("arith."):
        return False
    return any(_depends(each, index) for each in owner.operands)


def _trace(program: tuple[Node, ...], tasklet: int) -> list[Event]:
    events: list[Event] = [("compute", START_SLOTS)]
    _unroll(program, tasklet, {}, events)
    return events


def _unroll(
    program: tuple[Node, ...], tasklet: int, indices: dict[Any, int], events: list[Event]
) -> None:
    for node in program:
        if isinstance(node, Work):
            _compute(events, node.slots)
        elif isinstance(node, Move):
            events.append((node.kind, node.size))
        elif isinstance(node, Meet):
            events.append(("barrier", 0))
        else:
            first, last = (_value(each, tasklet, indices) for each in (node.first, node.last))
            for index in range(first, last, node.step):
                indices[node.index] = index
                _unroll(node.body, tasklet, indices, events)
                _compute(events, node.slots)


def _compute(events: list[Event], slots: float) -> None:
    if events and events[-1][0] == "compute":
        events[-1] = ("compute", events[-1][1] + slots)
    else:
        events.append(("compute", slots))


_VALUES: dict[str, Callable[[int, int], int]] = {
    "arith.addi": lambda a, b: a + b,
    "arith.subi": lambda a, b: a - b,
    "arith.muli": lambda a, b: a * b,
    "arith.shli": lambda a, b: a << b,
    "arith.shrui": lambda a, b: a >> b,
    "arith.andi": lambda a, b: a & b,
    "arith.minui": min,
}


def _value(value: Any, tasklet: int, indices: dict[Any, int]) -> int:
    """A bound of a loop."""
    known = constant_of(value)
    if known is not None:
        return known
    if value in indices:
        return indices[value]
    owner = value.owner
    if owner.name == "pim.tasklet":
        return tasklet
    left, right = (_value(each, tasklet, indices) for each in owner.operands)
    return _VALUES[owner.name](left, right)

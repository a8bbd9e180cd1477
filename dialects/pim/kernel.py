"""Ops that say who runs what, and when: kernel, tasklet, loop, barrier."""

from collections.abc import Sequence
from typing import Any

from ..bindings import Operand, Result, ext, ir
from ..errors import QccError
from ..regions import walk
from .device import LEAST_STACK, device
from .dialect import Pim, is_pim, known_element, scope_of, size_of
from .facts import constant_of


class KernelOp(Pim.Operation, name="kernel", traits=[ir.IsIsolatedFromAboveTrait]):
    """
    A program that every tasklet of every DPU runs: `main` of one DPU binary.

    `device` is a device of device.py, `tasklets` how many run, `stack` the bytes of each. The
    body's arguments, called `arguments`, are arrays in MRAM, and words (i32) that the host sets.
    Attributes `note` on ops inside are comments for the reader of the emitted code.
    """

    symbol: ir.StringAttr
    device: ir.StringAttr
    tasklets: ir.IntegerAttr
    stack: ir.IntegerAttr
    arguments: ir.ArrayAttr
    body: ext.Region

    def verify_invariants(self) -> bool:
        return _arguments_are_whole(self) and _fits(self)


class TaskletOp(Pim.Operation, name="tasklet", traits=[ext.Pure]):
    """The number of the tasklet that runs, 0 to tasklets - 1: `me()`."""

    index: Result[Any]


class LoopOp(Pim.Operation, name="loop"):
    """
    carried = body(i, carried) for i = first, first + step, … while i < last; `outcomes` is the
    last carried.

    The emitter writes `unroll` iterations one after another, all for 0; their number must then be
    known and divide by it. `variable` is the name of i in emitted code.
    """

    first: Operand[Any]
    last: Operand[Any]
    initial: Sequence[Operand[Any]]
    step: ir.IntegerAttr
    unroll: ir.IntegerAttr
    variable: ir.StringAttr
    outcomes: Sequence[Result[Any]]
    body: ext.Region

    def verify_invariants(self) -> bool:
        return _loop_is_whole(self)


class BarrierOp(Pim.Operation, name="barrier"):
    """No tasklet goes on before all have arrived."""


class OrderOp(Pim.Operation, name="order"):
    """
    Compilers move no load or store across; takes no time.

    Without it they start the loads of all groups at once and run out of registers.
    """


class YieldOp(Pim.Operation, name="yield", traits=[ir.IsTerminatorTrait]):
    """What the body of a loop hands on."""

    values: Sequence[Operand[Any]]


class ReturnOp(Pim.Operation, name="return", traits=[ir.IsTerminatorTrait]):
    """The end of a kernel."""


def trip_count(loop: Any) -> int | None:
    """Iterations of a loop, None where they are not known before it runs."""
    first, last = constant_of(loop.first), constant_of(loop.last)
    if first is None or last is None:
        return None
    return max(0, -(-(last - first) // loop.step.value))


def argument_names(kernel: Any) -> list[str]:
    return [ir.StringAttr(name).value for name in kernel.arguments]


def wram_bytes(kernel: Any) -> int:
    """WRAM of a kernel: buffers, one of each private buffer for a tasklet, and stacks."""
    tasklets, total = kernel.tasklets.value, kernel.tasklets.value * kernel.stack.value
    for op in walk(kernel):
        if op.operation.name == "pim.wram_alloc":
            private = scope_of(op.buffer.type) == "private"
            total += size_of(op.buffer.type) * (tasklets if private else 1)
    return total


def mram_bytes(kernel: Any) -> int:
    arguments = kernel.body.blocks[0].arguments
    return sum(size_of(each.type) for each in arguments if is_pim(each.type, "mram"))


def iram_instructions(kernel: Any) -> int:
    """
    An estimate of the instructions of a kernel: two for an op and eight for a loop, as often as
    loops are unrolled, and START_UP for the runtime's own.
    """
    return START_UP + _instructions(kernel.body)


START_UP = 200
INSTRUCTIONS = {
    "pim.order": 0,
    "pim.barrier": 4,
    "pim.dma_in": 10,
    "pim.dma_out": 10,
    "pim.lookup_accumulate": 6,
}


def _instructions(region: Any) -> int:
    total = 0
    for block in region.blocks:
        for op in block.operations:
            name = op.operation.name
            if name == "pim.loop":
                times = op.unroll.value or trip_count(op) or 1
                total += 8 + times * _instructions(op.body)
            elif name != "arith.constant":
                total += INSTRUCTIONS.get(name, 2)
    return total


def _arguments_are_whole(op: KernelOp) -> bool:
    block = op.body.blocks[0]
    if len(block.arguments) != len(op.arguments):
        op.location.emit_error(
            f"pim.kernel: {len(op.arguments)} names for {len(block.arguments)} arguments"
        )
        return False
    for name, each in zip(argument_names(op), block.arguments, strict=True):
        word = str(each.type) == "i32"
        if not word and not (is_pim(each.type, "mram") and known_element(each.type)):
            op.location.emit_error(
                f"pim.kernel: argument {name!r} is {each.type}; it must be i32 or an array in "
                "MRAM of known shape, of elements of 1, 2 or 4 bytes with a sign or none"
            )
            return False
    return True


def _fits(op: KernelOp) -> bool:
    """Verifier part: tasklets, WRAM, MRAM and IRAM of the device."""
    try:
        held = device(op.device.value)
    except QccError as error:
        op.location.emit_error(f"pim.kernel: {error.what}; {error.next_step}")
        return False
    tasklets, stack = op.tasklets.value, op.stack.value
    if stack < LEAST_STACK or stack % 8:
        least = f"a multiple of 8 ≥ {LEAST_STACK}"
        op.location.emit_error(f"pim.kernel: a stack of {stack} bytes; take {least}")
        return False
    for what, need, most, advice in (
        ("tasklets", tasklets, held.most_tasklets, f"at most {held.most_tasklets} run"),
        ("bytes of WRAM", wram_bytes(op) + held.runtime, held.wram, "fewer tasklets or buffers"),
        ("bytes of MRAM", mram_bytes(op), held.mram, "more DPUs or a smaller p"),
        ("instructions (estimated)", iram_instructions(op), held.iram, "unroll less"),
    ):
        if need > most or need < 1:
            op.location.emit_error(
                f"pim.kernel @{op.symbol.value}: {need} {what}, {held.name} has {most}; {advice}"
            )
            return False
    return True


def _loop_is_whole(op: LoopOp) -> bool:
    step, unroll, trips = op.step.value, op.unroll.value, trip_count(op)
    if step < 1 or unroll < 0:
        op.location.emit_error(f"pim.loop: step {step}, unroll {unroll}; both count upwards")
        return False
    if unroll != 1 and (trips is None or trips % (unroll or 1)):
        op.location.emit_error(f"pim.loop: {trips} iterations are not whole unrolls of {unroll}")
        return False
    arguments = [each.type for each in op.body.blocks[0].arguments]
    carried = [each.type for each in op.initial]
    if arguments[1:] != carried or [each.type for each in op.operation.results] != carried:
        op.location.emit_error(f"pim.loop: carries {carried} into {arguments[1:]}")
        return False
    return True

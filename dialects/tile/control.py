"""Ops that say who computes what, and when: kernel, offsets of a block, pipeline, steps."""

from collections.abc import Sequence
from typing import Any, Optional

from ..bindings import Operand, Result, ext, ir
from ..errors import QccError
from ..regions import walk
from .block_work import unfit_orders
from .dialect import Tile, shared_size
from .hardware import is_native, machine, require_native
from .schedule import Schedule
from .tensor_memory import COLUMNS, placed_operands

UNBOUNDED = 1 << 30
"""Larger than every index."""


def _number(value: int) -> ir.IntegerAttr:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


class KernelOp(Tile.Operation, name="kernel", traits=[ir.IsIsolatedFromAboveTrait]):
    """
    A function that every block of a grid runs.

    `target` is a machine of hardware.py. The body's arguments are tensors in global memory and
    numbers, called `arguments`. The grid is (tiles of tokens, tiles of channels, splits of K), or
    (blocks, 1, 1) where these are persistent: then an `scf.for` goes over the tiles of a block.
    """

    symbol: ir.StringAttr
    target: ir.StringAttr
    schedule: Any
    arguments: ir.ArrayAttr
    body: ext.Region

    def verify_invariants(self) -> bool:
        block = self.body.blocks[0]
        if len(block.arguments) != len(self.arguments):
            self.location.emit_error(
                f"tile.kernel: {len(self.arguments)} names for {len(block.arguments)} arguments"
            )
            return False
        return _schedule_is_whole(self) and _loops_as_it_says(self) and _fits(self)


class BlockTilesOp(Tile.Operation, name="block_tiles", traits=[ext.Pure]):
    """
    The tiles of a persistent block: `first`, `first` + `stride`, … while before `last`.

    Of results of `tokens` by `channels`, each the sum of `steps` steps of K (block_work.py).
    """

    tokens: Operand[Any]
    channels: ir.IntegerAttr
    steps: ir.IntegerAttr
    first: Result[Any]
    last: Result[Any]
    stride: Result[Any]


class BlockOffsetOp(Tile.Operation, name="block_offset", traits=[ext.Pure]):
    """
    The first index of `tile`, or of this block's tile, along `axis`, "n" or "m", at most `most`.

    So the last tile may begin earlier and make again what the one before it makes.
    """

    axis: ir.StringAttr
    offset: Result[Any]
    most: Any = ext.attribute(default_factory=lambda: _number(UNBOUNDED))
    tile: Optional[Operand[Any]] = None


class BlockRangeOp(Tile.Operation, name="block_range", traits=[ext.Pure]):
    """
    The share of 0 … extent - 1 of this block, in whole steps, ceil(extent / step) of them.

    Share s of S is the steps from s * steps / S to before (s + 1) * steps / S. Of `tile` it is all
    steps, or with the schedule's stream_k those of the block's units (block_work.py).
    """

    extent: ir.IntegerAttr
    step: ir.IntegerAttr
    first: Result[Any]
    last: Result[Any]
    tile: Optional[Operand[Any]] = None


class PipelineOp(Tile.Operation, name="pipeline"):
    """
    carried = body(k, carried) for k = first, first + step, … while k < last.

    One iteration is written down. Shared tiles made inside exist `stages` times: an emitter may
    fetch those of later iterations while it computes.
    """

    first: Operand[Any]
    last: Operand[Any]
    initial: Operand[Any]
    step: ir.IntegerAttr
    stages: ir.IntegerAttr
    result: Result[Any]
    body: ext.Region


class StepsOp(Tile.Operation, name="steps"):
    """
    carried = body(k, carried) for k = start, start + step, … , `count` times.

    Warps along K may take packets of 64 in turn: `result` is then a sum that `tile.combine` ends.
    """

    start: Operand[Any]
    initial: Operand[Any]
    step: ir.IntegerAttr
    count: ir.IntegerAttr
    result: Result[Any]
    body: ext.Region


class YieldOp(Tile.Operation, name="yield", traits=[ir.IsTerminatorTrait]):
    """What a region hands on."""

    values: Sequence[Operand[Any]]


class ReturnOp(Tile.Operation, name="return", traits=[ir.IsTerminatorTrait]):
    """The end of a kernel."""


def shared_copies(kernel: Any) -> list[Any]:
    """The `tile.copy` ops of a kernel, in order."""
    return [op for op in walk(kernel) if op.operation.name == "tile.copy"]


def _tensor_memory_fault(op: KernelOp) -> str:
    """What is wrong with a kernel's allocations of tensor memory, if anything."""
    allocations = [each for each in walk(op) if each.operation.name == "tile.tmem_allocate"]
    if allocations and not is_native(op.target.value, "tcgen05.f16"):
        return f"{op.target.value} has no tensor memory"
    columns = sum(each.columns.value for each in allocations)
    if columns > COLUMNS:
        return f"{columns} columns of tensor memory exceed the {COLUMNS} there are"
    for each in allocations:
        users = [use.owner.name for use in each.memory.uses]
        if users.count("tile.tmem_release") != 1:
            return f"{each.columns.value} columns of tensor memory are not released once"
    return ""


def _schedule_is_whole(op: KernelOp) -> bool:
    try:
        Schedule.of(op.schedule)
    except (KeyError, ValueError, TypeError) as error:
        op.location.emit_error(f"tile.kernel: the schedule has no valid {error}")
        return False
    return True


def _loops_as_it_says(op: KernelOp) -> bool:
    """Verifier part: a loop over tiles just where the schedule's blocks are persistent."""
    s = Schedule.of(op.schedule)
    loops = sum(each.operation.name == "tile.block_tiles" for each in walk(op))
    reasons = [*unfit_orders(s)]
    if loops != (s.persistent > 0):
        reasons.append(f"{loops} loops over tiles in a kernel of {s.persistent} persistent blocks")
    for reason in reasons:
        op.location.emit_error(f"tile.kernel: {reason}")
    return not reasons


def _fits(op: KernelOp) -> bool:
    """Verifier part: what the target holds, and which instructions it has."""
    try:
        device, schedule = machine(op.target.value), Schedule.of(op.schedule)
        for each in walk(op):
            if each.operation.name in ("tile.mma", "tile.mma_scaled"):
                require_native(device.name, each.instruction.value)
    except QccError as error:
        op.location.emit_error(f"tile.kernel: {error.what}; {error.next_step}")
        return False
    if reason := _tensor_memory_fault(op):
        op.location.emit_error(f"tile.kernel: {reason}")
        return False
    accumulators = schedule.workers * 4 * schedule.strips * schedule.columns
    stage = sum(shared_size(copy.tile.type) for copy in shared_copies(op))
    stages = schedule.buffers * (stage + sum(size for _, size in placed_operands(op)))
    for what, need, most in (
        ("threads", schedule.threads, device.threads_per_block),
        ("accumulators", accumulators, device.registers_per_processor),
        ("bytes of shared memory", stages, device.shared_per_block),
    ):
        if need > most:
            op.location.emit_error(f"tile.kernel: {need} {what} exceed the {most} of {device.name}")
            return False
    return True

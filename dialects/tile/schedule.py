"""
Schedules of linear layers: which block computes what, in which pieces, and what is legal.

A block makes a tile of `channels` x `tokens` of the result, over a share of K, in steps of
`depth`. Its warps divide channels, tokens and depth among them; the weights are the left operand
of the instruction (16 channels), so that few tokens waste little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields

from ..bindings import ir
from ..formats.packets import LANES, PACKET_COLUMNS, PACKET_ROWS
from .block_work import MOST_RESULTS, most_units, unfit_loops, unfit_orders
from .dialect import BANK_ROW
from .fragments import INSTRUCTIONS, Instruction
from .hardware import Machine, is_native
from .problem import LinearProblem
from .schedule_memory import shared_bytes
from .tensor_tiles import unfit_for_tensor_memory

MOST_REGISTERS = 254
WARP_GROUP = 128
PRODUCER_REGISTERS, CONSUMER_REGISTERS = 24, 240
"""Of a thread, as two warp groups that multiply and one that fetches share 64 Ki registers."""
TENSOR_PRODUCER_REGISTERS, TENSOR_CONSUMER_REGISTERS = 72, 216
"""The same where a thread of the group that fetches multiplies in tensor memory."""
MOST_BOX = 256
STREAMING_BLOCKS = 2
"""Blocks of a multiprocessor that share its registers when schedules stream."""
OTHER_REGISTERS, LOOP_REGISTERS = 48, 24
DECODED_AHEAD = 8
ZERO_POINT_REGISTERS = 12


@dataclass(frozen=True)
class Schedule:
    """
    One way to compute a linear layer.

    `channels`, `tokens`, `depth`: the tile of a block. `warps_n`, `warps_m`, `warps_k`: the warps
    along them. `stages`: buffers of the pipeline. `splits`: blocks that share K. `stream_weights`:
    weights are marked as read once in the caches.

    A schedule that `streams` is for few tokens: packets go to registers, `stages` of each warp at
    a time, and the activations of a block's share of K to shared memory, once; `tokens` is then 1,
    2, 4 or a multiple of 8.

    With an instruction of warp groups, each group of four warps makes 64 channels, and one more
    group fetches: activations by tensor copies, the rest by bulk copies, into a ring of stages.
    So with one in tensor memory, where the groups make operands of what was fetched, and a thread
    of the last one multiplies them.

    `swizzle`: vectors of 16 bytes that are exchanged within a row of activations in shared memory,
    by the row. `raster`: tiles of tokens that are made with one tile of channels before the next
    one, 0 for all. `persistent`: blocks of each multiprocessor, which loop over tiles; 0 where each
    tile has a block. With `stream_k` they share the steps of all tiles evenly (block_work.py).
    """

    instruction: str
    channels: int
    tokens: int
    depth: int
    warps_n: int
    warps_m: int
    warps_k: int
    stages: int
    splits: int = 1
    stream_weights: bool = True
    streams: bool = False
    swizzle: int = 8
    raster: int = 0
    persistent: int = 0
    stream_k: bool = False

    @property
    def warps(self) -> int:
        return self.warps_n * self.warps_m * self.warps_k

    @property
    def of_groups(self) -> bool:
        """Whether warps multiply in groups of four, and not each by itself."""
        return self.record.of_warp_group or self.record.in_tensor_memory

    @property
    def groups(self) -> int:
        """Warp groups that compute; 0 where every warp fetches and multiplies by itself."""
        return self.warps // 4 if self.of_groups else 0

    @property
    def workers(self) -> int:
        """Threads that multiply."""
        return LANES * self.warps

    @property
    def threads(self) -> int:
        return self.workers + WARP_GROUP * (self.groups > 0)

    @property
    def strips(self) -> int:
        """Strips of 16 channels of one warp."""
        return self.channels // PACKET_ROWS // self.warps_n

    @property
    def padded_tokens(self) -> int:
        """Tokens of a block in whole columns of the instruction."""
        return -(-self.tokens // 8) * 8

    @property
    def columns(self) -> int:
        """Columns of 8 tokens of one warp."""
        return self.padded_tokens // 8 // self.warps_m

    @property
    def keeps_stages(self) -> bool:
        """Whether the epilogue has memory of its own: the next tile's stages are under way."""
        return self.persistent > 0 and self.groups > 0

    @property
    def buffers(self) -> int:
        """Copies that shared memory holds of a pipeline's tiles."""
        return 1 if self.streams else self.stages

    def share(self, k: int) -> int:
        """Columns of K that a block takes at most, in whole steps."""
        steps = -(-k // self.depth)
        return -(-steps // self.splits) * self.depth

    @property
    def record(self) -> Instruction:
        return INSTRUCTIONS[self.instruction]

    def attribute(self) -> ir.DictAttr:
        """As it stands in the IR."""
        values: dict[str, ir.Attribute] = {}
        for name, value in asdict(self).items():
            if isinstance(value, str):
                values[name] = ir.StringAttr.get(value)
            elif isinstance(value, bool):
                values[name] = ir.BoolAttr.get(value)
            else:
                values[name] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
        return ir.DictAttr.get(values)

    @staticmethod
    def of(attribute: ir.Attribute) -> Schedule:
        """Undo `attribute`; what is left out has its default."""
        given = ir.DictAttr(attribute)
        kinds = {"str": ir.StringAttr, "bool": ir.BoolAttr, "int": ir.IntegerAttr}
        known = [each for each in fields(Schedule) if each.default is MISSING or each.name in given]
        return Schedule(
            **{each.name: kinds[str(each.type)](given[each.name]).value for each in known}
        )


def registers(problem: LinearProblem, schedule: Schedule) -> int:
    """
    An estimate of the registers of a thread: accumulators and what surrounds them, operands,
    codes, the values of a decode program under way, addresses.

    Fitted to what ptxas 13.0 needs for default schedules of all formats.
    """
    accumulators, program = 4 * schedule.strips * schedule.columns, problem.program
    total = accumulators + OTHER_REGISTERS + LOOP_REGISTERS * (schedule.persistent > 0)
    if problem.group is not None and not problem.blocks:
        total += accumulators * (1 + problem.format.splits_signs)
    of_strip = min(program.registers, DECODED_AHEAD) + problem.format.bits
    if schedule.groups:
        return total + of_strip + len(program.steps) // 8
    total += accumulators * 3 // 8
    if schedule.streams:
        packets = (schedule.stages + 1) * problem.format.bits * schedule.strips
        return total + packets + min(program.registers, DECODED_AHEAD) + len(program.steps) // 4
    zeros = ZERO_POINT_REGISTERS * bool(program.offsets)
    return total + (of_strip + zeros) * schedule.strips + len(program.steps) // 2


def illegal(problem: LinearProblem, schedule: Schedule, device: Machine) -> Iterator[str]:
    """The reasons why this schedule cannot be built, none if it can."""
    record = schedule.record
    if record.operand != problem.activation:
        yield f"{schedule.instruction} multiplies {record.operand}, not {problem.activation}"
        return
    if not is_native(device.name, schedule.instruction):
        yield f"{device.name} has no {schedule.instruction}"
    yield from _uneven(schedule)
    yield from unfit_orders(schedule)
    yield from unfit_loops(schedule, shared_bytes(problem, schedule), device)
    steps = -(-problem.stored_k // schedule.depth)
    if schedule.stream_k and most_units(problem.n, steps, schedule) > MOST_RESULTS:
        yield f"blocks do not count the {steps} steps of so many tiles"
    threads = max(schedule.threads, 1)
    blocks = STREAMING_BLOCKS if schedule.streams else max(1, schedule.persistent)
    most = min(MOST_REGISTERS, device.registers_per_processor // (blocks * threads))
    if schedule.of_groups:
        in_tensor_memory = record.in_tensor_memory
        unfit = unfit_for_tensor_memory if in_tensor_memory else _unfit_for_groups
        yield from unfit(problem, schedule)
        most = TENSOR_CONSUMER_REGISTERS if in_tensor_memory else CONSUMER_REGISTERS
    for what, need, most_ in (
        ("threads", schedule.threads, device.threads_per_block),
        ("bytes of shared memory", shared_bytes(problem, schedule), device.shared_per_block),
        ("registers (estimated) a thread", registers(problem, schedule), most),
    ):
        if need > most_:
            yield f"{need} {what} are more than {most_}"


def _unfit_for_groups(problem: LinearProblem, schedule: Schedule) -> Iterator[str]:
    """What tensor and bulk copies cannot bring, and products of warp groups not read."""
    s, row = schedule, problem.k * schedule.record.operand_bits // 8
    if s.groups not in (1, 2) or s.channels != 64 * s.groups or s.warps != s.warps_n:
        yield f"{s.channels} channels are not 64 for each of 1 or 2 warp groups"
    if problem.strips * PACKET_ROWS < s.channels:
        yield f"{problem.n} channels are fewer than the {s.channels} of a block"
    if s.tokens & (s.tokens - 1) or not 8 <= s.tokens <= MOST_BOX:
        yield f"warp groups multiply 8, 16, 32 … {MOST_BOX} tokens, not {s.tokens}"
    if row % 16:
        yield f"rows of {row} bytes begin on no multiple of 16, as tensor copies need"
    if problem.memory != problem.activation or problem.group != problem.stored_group:
        yield "tensor copies convert nothing and pad no groups"


def _uneven(schedule: Schedule) -> Iterator[str]:
    """Tiles that warps do not divide among them."""
    s = schedule
    if s.channels % (PACKET_ROWS * s.warps_n):
        yield f"{s.channels} channels are no strips of {PACKET_ROWS} for {s.warps_n} warps"
    if s.streams and (s.groups or s.warps_m > 1 or s.tokens & (s.tokens - 1)):
        yield f"{s.warps_m} warps do not stream for {s.tokens} tokens"
    if s.streams and s.depth != PACKET_COLUMNS * s.warps_k:
        yield f"{s.warps_k} warps stream a packet of {PACKET_COLUMNS} each, not {s.depth} columns"
    if s.tokens % (8 * s.warps_m) and not s.streams:
        yield f"{s.tokens} tokens are no columns of 8 for {s.warps_m} warps"
    if s.depth % (PACKET_COLUMNS * s.warps_k):
        yield f"a depth of {s.depth} is no packets of {PACKET_COLUMNS} for {s.warps_k} warps"
    if s.depth * s.record.operand_bits // 8 < BANK_ROW:
        yield f"rows of {s.depth} {s.record.operand} are shorter than {BANK_ROW} bytes of banks"
    if s.depth & (s.depth - 1) or s.stages < 2 - s.streams or s.splits < 1:
        yield "depth must be a power of two, stages at least 2, splits at least 1"

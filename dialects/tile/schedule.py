"""
Schedules of linear layers: which block computes what, in which pieces, and what is legal.

A block makes a tile of `channels` x `tokens` of the result, over a share of K, in steps of
`depth`. Its warps divide channels, tokens and depth among them; the weights are the left operand
of the instruction (16 channels), so that few tokens waste little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from math import gcd

from ..bindings import ir
from ..errors import UnsupportedError
from ..formats import Format, parse_spelling
from ..formats.packets import LANES, PACKET_COLUMNS, PACKET_ROWS
from .decode_program import TABLE_STRIDE, DecodeProgram
from .decode_rules import decode_program
from .dialect import BANK_ROW
from .fragments import INSTRUCTIONS, Instruction
from .operand_types import OPERAND_TYPES, OperandType

COPY_BYTES = 16
MOST_REGISTERS = 250
REGISTER_FILE = 65536
OTHER_REGISTERS = 48  # addresses, indices and what a decode program has under way
LONGEST_INTEGER_SUM = (1 << 31) // (128 * 128)
INSTRUCTION_OF = {
    "f16": "mma.m16n8k16.f16",
    "bf16": "mma.m16n8k16.bf16",
    "i8": "mma.m16n8k32.s8",
    "f8E4M3FN": "mma.m16n8k32.e4m3",
}


@dataclass(frozen=True)
class LinearProblem:
    """
    result[tokens, n] = activations[tokens, k] · decode(weight[n, k]) (+ bias[n]).

    `tokens` is what the schedule is chosen for; kernels take any number. `weight` spells a
    format; `activation`, `result` and `bias` are element types. Activations of i8 come with one
    fp32 scale for each token.
    """

    n: int
    k: int
    tokens: int
    weight: str
    activation: str = "f16"
    result: str = "f16"
    bias: str | None = None

    @cached_property
    def format(self) -> Format:
        return parse_spelling(self.weight)

    @cached_property
    def program(self) -> DecodeProgram:
        return decode_program(self.format, self.activation)

    @property
    def operand(self) -> OperandType:
        return OPERAND_TYPES[self.activation]

    @property
    def group(self) -> int | None:
        """Columns of k that share scales; None where a row has one scale, or none."""
        size = self.format.block_size
        return size if isinstance(size, int) else None

    @property
    def strips(self) -> int:
        return -(-self.n // PACKET_ROWS)

    @property
    def units(self) -> int:
        return -(-self.k // PACKET_COLUMNS)

    @property
    def groups(self) -> int:
        return 1 if self.group is None else -(-self.k // self.group)


@dataclass(frozen=True)
class Schedule:
    """
    One way to compute a linear layer.

    `channels`, `tokens`, `depth`: the tile of a block. `warps_n`, `warps_m`, `warps_k`: the warps
    along them. `stages`: buffers of the pipeline. `splits`: blocks that share K. `stream_weights`:
    weights are marked as read once in the caches.
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

    @property
    def warps(self) -> int:
        return self.warps_n * self.warps_m * self.warps_k

    @property
    def threads(self) -> int:
        return LANES * self.warps

    @property
    def strips(self) -> int:
        """Strips of 16 channels of one warp."""
        return self.channels // PACKET_ROWS // self.warps_n

    @property
    def columns(self) -> int:
        """Columns of 8 tokens of one warp."""
        return self.tokens // 8 // self.warps_m

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
        """Undo `attribute`."""
        given = ir.DictAttr(attribute)
        kinds = {"str": ir.StringAttr, "bool": ir.BoolAttr, "int": ir.IntegerAttr}
        return Schedule(
            **{
                each.name: kinds[str(each.type)](given[each.name]).value
                for each in fields(Schedule)
            }
        )


@dataclass(frozen=True)
class Machine:
    """What schedules ask of a target."""

    shared_bytes: int = 163 * 1024
    multiprocessors: int = 108


SM80 = Machine()


@dataclass(frozen=True)
class SharedTile:
    """A piece of shared memory that one stage of the pipeline holds: rows of elements."""

    name: str
    rows: int
    columns: int
    element: str
    element_bytes: int

    @property
    def bytes(self) -> int:
        return self.rows * self.columns * self.element_bytes


SCALE_ELEMENTS = {"float32": ("f32", 4), "uint8": ("ui8", 1), "int8": ("si8", 1)}


def stage_tiles(problem: LinearProblem, schedule: Schedule) -> list[SharedTile]:
    """What each stage holds: activations, packets, and scales and zero points of groups."""
    operand = problem.operand
    tiles = [
        SharedTile("x", schedule.tokens, schedule.depth, operand.name, operand.bits // 8),
        SharedTile(
            "codes",
            schedule.channels // PACKET_ROWS,
            schedule.depth // PACKET_COLUMNS * LANES * problem.format.bits,
            "ui32",
            4,
        ),
    ]
    for role, kind in row_roles(problem).items():
        if problem.group is not None or role == "zero_point":
            rows = scale_rows(problem.group, schedule.depth)
            tiles.append(SharedTile(role, rows, schedule.channels, *SCALE_ELEMENTS[kind]))
    return tiles


def row_roles(problem: LinearProblem) -> dict[str, str]:
    """Parts that hold numbers for each row of the weight, and NumPy's names of their types."""
    fmt = problem.format
    return {
        role: str(kind)
        for role, (_, kind) in fmt.part_specs(1, 1).items()
        if role != fmt.code_part and (role == "zero_point" or role not in fmt.tensor_roles)
    }


def scale_rows(group: int | None, depth: int) -> int:
    """Groups that a tile of `depth` columns can touch."""
    if group is None or group % depth == 0:
        return 1
    return depth // group if depth % group == 0 else (depth - 2) // group + 2


def chunk_of(problem: LinearProblem) -> int:
    """Columns of k between two rescalings: as many of a packet as share a scale."""
    return PACKET_COLUMNS if problem.group is None else gcd(problem.group, PACKET_COLUMNS)


def shared_bytes(problem: LinearProblem, schedule: Schedule) -> int:
    """Dynamic shared memory of a block; the epilogue reuses the pipeline's."""
    stage = sum(-(-tile.bytes // BANK_ROW) * BANK_ROW for tile in stage_tiles(problem, schedule))
    pipeline = stage * schedule.stages
    tile = schedule.channels * schedule.tokens * 4
    epilogue = max(1, schedule.warps_k - 1) * tile + schedule.tokens * 16
    table = len(problem.program.table) << TABLE_STRIDE
    return max(pipeline, epilogue) + table


def registers(problem: LinearProblem, schedule: Schedule) -> int:
    """An estimate of the registers of a thread: accumulators, operands, codes, the rest."""
    accumulators = 4 * schedule.strips * schedule.columns
    sums = (1 + problem.format.splits_signs) * accumulators if problem.group else 0
    program = problem.program
    operands = program.registers * schedule.strips + 2 * schedule.columns + len(program.steps) // 2
    return accumulators + sums + operands + problem.format.bits * schedule.strips + OTHER_REGISTERS


def illegal(problem: LinearProblem, schedule: Schedule, machine: Machine = SM80) -> Iterator[str]:
    """The reasons why this schedule cannot be built, none if it can."""
    s, record = schedule, schedule.record
    if record.operand != problem.activation:
        yield f"{s.instruction} multiplies {record.operand}, not {problem.activation}"
        return
    if s.channels % (PACKET_ROWS * s.warps_n):
        yield f"{s.channels} channels are no strips of {PACKET_ROWS} for {s.warps_n} warps"
    if s.tokens % (8 * s.warps_m):
        yield f"{s.tokens} tokens are no columns of 8 for {s.warps_m} warps"
    if s.depth % (PACKET_COLUMNS * s.warps_k):
        yield f"a depth of {s.depth} is no packets of {PACKET_COLUMNS} for {s.warps_k} warps"
    if s.depth * record.operand_bits // 8 < BANK_ROW:
        yield f"rows of {s.depth} {record.operand} are shorter than {BANK_ROW} bytes of banks"
    if s.depth & (s.depth - 1) or s.stages < 2 or s.splits < 1:
        yield "depth must be a power of two, stages at least 2, splits at least 1"
    if s.threads > 1024:
        yield f"{s.threads} threads are more than a block has"
    if (need := shared_bytes(problem, s)) > machine.shared_bytes:
        yield f"{need} bytes of shared memory are more than {machine.shared_bytes}"
    need, most = registers(problem, s), min(MOST_REGISTERS, REGISTER_FILE // max(s.threads, 1))
    if need > most:
        yield f"about {need} registers a thread are more than {most}"


def refusal(problem: LinearProblem) -> str | None:
    """Why no schedule can compute this problem, or None."""
    record, group = INSTRUCTIONS[INSTRUCTION_OF[problem.activation]], problem.group
    if group is not None and group % record.k:
        nearest = max(record.k, round(group / record.k) * record.k)
        return f"groups of {group} are no multiple of the {record.k} columns of {record.name}; " \
            f"use group={nearest}"  # fmt: skip
    if record.accumulator == "i32" and problem.k > LONGEST_INTEGER_SUM and group is None:
        return f"sums of {problem.k} products of bytes may leave 32 bits; use groups"
    if problem.format.splits_signs and record.operand_bits != 16:
        return f"a scale for each sign needs 16-bit activations, not {record.operand}"
    if problem.activation == "i8" and problem.result not in ("f16", "bf16", "f32"):
        return f"no result of {problem.result}"
    return None


def checked(problem: LinearProblem) -> LinearProblem:
    """The problem itself; raises UnsupportedError where nothing can compute it."""
    if reason := refusal(problem):
        raise UnsupportedError(
            "linear-unsupported",
            f"no kernel for {problem.activation} times {problem.weight}",
            why=reason,
            next_step="choose the group or the activations that the reason names",
        )
    _ = problem.program
    return problem


def default_schedule(problem: LinearProblem, machine: Machine = SM80) -> Schedule:
    """
    A legal schedule for any shape.

    Few tokens: the memory must be kept busy, so warps share K and blocks are many. Many tokens:
    each warp has its own channels, so that nothing is decoded twice.
    """
    checked(problem)
    name = INSTRUCTION_OF[problem.activation]
    for candidate in _preferred(problem, name):
        fitted = _fitted(problem, candidate)
        if not any(illegal(problem, fitted, machine)):
            return replace(fitted, splits=_splits(problem, fitted, machine))
    raise UnsupportedError(
        "schedule-none",
        f"no schedule for {problem}",
        why="; ".join(illegal(problem, _fitted(problem, Schedule(name, 16, 8, 128, 1, 1, 1, 2)))),
        next_step="report this shape",
    )


def _preferred(problem: LinearProblem, name: str) -> Iterator[Schedule]:
    if problem.tokens <= 16:
        tokens = 8 if problem.tokens <= 8 else 16
        yield Schedule(name, 64, tokens, 256, 1, 1, 4, 4)
    elif problem.tokens <= 64:
        yield Schedule(name, 64, 32 if problem.tokens <= 32 else 64, 128, 2, 1, 2, 4)
    else:
        yield Schedule(name, 128, 128, 64, 4, 1, 1, 4)
        yield Schedule(name, 128, 64, 64, 4, 1, 1, 4)
    yield Schedule(name, 64, 32, 128, 2, 1, 2, 3)
    yield Schedule(name, 64, 8, 128, 2, 1, 2, 2)
    yield Schedule(name, 16, 8, 128, 1, 1, 1, 2)


def _fitted(problem: LinearProblem, schedule: Schedule) -> Schedule:
    """No more channels than there are, and rows of at least 128 bytes."""
    depth = max(schedule.depth, BANK_ROW * 8 // schedule.record.operand_bits)
    strips = schedule.channels // PACKET_ROWS
    while strips > problem.strips and strips > schedule.warps_n:
        strips //= 2
    return replace(schedule, depth=depth, channels=strips * PACKET_ROWS)


def _splits(problem: LinearProblem, schedule: Schedule, machine: Machine) -> int:
    """Enough blocks for two on each multiprocessor, as long as each has four steps of K."""
    tiles = -(-problem.n // schedule.channels) * -(-problem.tokens // schedule.tokens)
    wanted = 2 * machine.multiprocessors // tiles
    return max(1, min(wanted, -(-problem.k // schedule.depth) // 4, 16))

"""Attention as a problem to be scheduled, its schedules, and which of both nothing computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import UnsupportedError
from ..formats import Format, parse_spelling
from ..formats.packets import LANES, PACKET_COLUMNS, PACKET_ROWS
from .attention_groups import placed_bytes, unfit_for_groups
from .decode_program import TABLE_STRIDE, DecodeProgram
from .decode_rules import decode_program
from .hardware import MULTIPROCESSORS, Machine, machine
from .problem import INSTRUCTION_OF, SCALE_ELEMENTS
from .warp_memory import ROW_PAD, SWIZZLE_ATOM

PLAIN = {"f32": 4, "f16": 2, "bf16": 2}
PLAIN_FORMATS = {"fp16": "f16", "bf16": "bf16"}
KEYS = 64  # a tile of packed keys or values; caches are whole ones
VALUE_COLUMNS = 128  # of one block: their sums are registers
RESIDENT_DEPTH = 256  # deeper queries are not kept in registers
FEW_ROWS = 32
MOST_SUMS = 224
"""Of a lane: with more of them there is no room for operands and addresses."""


@dataclass(frozen=True)
class Rows:
    """
    What keys or values are stored as: rows of `depth` numbers of `element`, or packets of `format`.

    `name` prefixes the names of a kernel's arguments.
    """

    name: str
    depth: int
    element: str = "f16"
    spelling: str | None = None

    @property
    def format(self) -> Format | None:
        return None if self.spelling is None else parse_spelling(self.spelling)

    @staticmethod
    def of(name: str, depth: int, spelling: str | None, element: str = "f32") -> Rows:
        """
        Rows that a cache of `spelling` holds, or plain ones of `element` without one.

        >>> Rows.of("key", 64, "fp16").element, Rows.of("key", 64, "int4").spelling
        ('f16', 'int4')
        """
        if spelling is None or spelling in PLAIN_FORMATS:
            return Rows(name, depth, PLAIN_FORMATS.get(spelling or "", element))
        return Rows(name, depth, spelling=spelling)


@dataclass(frozen=True)
class AttentionProblem:
    """
    softmax(scale * query key^T + mask) value, as `qcc.attention` has it.

    The `group` query heads of a key head, and their tokens, are the rows of one product. `rows`
    is how many of them the schedule is chosen for, `planes` how many key heads in the batch.
    `operand` is the type of both products' factors.
    """

    keys: Rows
    values: Rows
    scale: float
    group: int = 1
    rows: int = 1
    planes: int = 1
    query: str = "f16"
    result: str = "f16"
    operand: str = "f16"
    causal: bool = True
    masked: bool = False

    @property
    def instruction(self) -> str:
        return INSTRUCTION_OF[self.operand]

    @property
    def value_group(self) -> int | None:
        """Columns of a value that share a scale; None where a row has one."""
        fmt = self.values.format
        size = None if fmt is None else fmt.block_size
        return size if isinstance(size, int) and size < self.values.depth else None

    @property
    def value_unit(self) -> int:
        """Values are shared out in pieces of this many columns: whole groups, if they are small."""
        group = self.value_group or 16
        return group if group <= VALUE_COLUMNS else 16

    @property
    def parts(self) -> int:
        """Blocks that share the columns of a value."""
        unit = self.value_unit
        return -(-self.values.depth // (VALUE_COLUMNS // unit * unit))

    @property
    def value_columns(self) -> int:
        """Columns of a value that a block sums, a multiple of 16."""
        columns = -(-self.values.depth // self.parts)
        return sixteens(-(-columns // self.value_unit) * self.value_unit)

    def program(self, rows: Rows) -> DecodeProgram | None:
        return None if rows.format is None else decode_program(rows.format, self.operand)

    @property
    def tables(self) -> tuple[tuple[int, ...], ...]:
        """What decoding keys and values looks up; both the same where they are alike."""
        programs = (self.program(rows) for rows in (self.keys, self.values))
        return tuple(program.table for program in programs if program and program.table)

    def table_name(self, rows: Rows) -> str | None:
        """The argument that holds the table of `rows`, None without one."""
        program, other = self.program(rows), self.program(self.keys)
        if program is None or not program.table:
            return None
        return "key_table" if other and other.table == program.table else "value_table"


@dataclass(frozen=True)
class AttentionSchedule:
    """
    One way to compute attention.

    A warp has `rows` rows of queries and meets `keys` keys at a time. Warps have rows of their
    own, or, with `share_keys`, the same rows and other keys. `splits` blocks share the keys. With
    `warp_groups` four warps multiply their 64 rows together, and read keys and values from shared
    memory.
    """

    warps: int
    rows: int
    keys: int
    stages: int
    splits: int = 1
    share_keys: bool = False
    warp_groups: bool = False

    @property
    def block_rows(self) -> int:
        return self.rows * (1 if self.share_keys else self.warps)

    @property
    def block_keys(self) -> int:
        """Keys of one step of a block."""
        return self.keys * (self.warps if self.share_keys else 1)


def sixteens(count: int) -> int:
    """The next multiple of 16."""
    return -(-count // 16) * 16


def packet_columns(rows: Rows) -> int:
    """Words of codes in a row of packets: 16 positions of keys, KEYS positions of values."""
    assert rows.format is not None
    unit = PACKET_COLUMNS if rows.name == "key" else PACKET_ROWS
    return -(-rows.depth // unit) * LANES * rows.format.bits


def code_words(rows: Rows) -> int:
    """Words of the codes of KEYS positions."""
    return packet_columns(rows) * (KEYS // PACKET_ROWS if rows.name == "key" else 1)


def row_parts(rows: Rows) -> dict[str, tuple[int, str]]:
    """Columns and element of the parts of packed rows that lie in rows: scales, zero points."""
    fmt = rows.format
    if fmt is None:
        return {}
    return {
        role: (shape[-1], SCALE_ELEMENTS[str(kind)][0])
        for role, (shape, kind) in fmt.part_specs(1, rows.depth).items()
        if role != fmt.code_part
    }


def refusal(problem: AttentionProblem) -> str | None:
    """Why nothing computes this problem, or None."""
    for rows in (problem.keys, problem.values):
        fmt = rows.format
        if fmt is None:
            if rows.element not in (problem.operand, "f32"):
                return f"{rows.name}s of {rows.element} meet products of {problem.operand}"
            continue
        size = fmt.block_size
        if isinstance(size, int) and size < rows.depth and size % 16:
            nearest = max(16, round(size / 16) * 16)
            return f"groups of {size} are no multiple of 16 columns; use group={nearest}"
        if not fmt.rows_independent:
            return f"{rows.spelling} has a scale of the whole tensor; rows cannot be appended"
        _ = problem.program(rows)
    group, columns = problem.value_group, problem.value_columns
    if group is not None and problem.parts > 1 and columns % group and group % columns:
        return f"groups of {group} are no part of {columns} columns of values; use group={columns}"
    if problem.scale <= 0:
        return f"a scale of {problem.scale} turns the order of scores round"
    return None


def stage_bytes(problem: AttentionProblem, schedule: AttentionSchedule) -> int:
    """Shared memory of one stage, parts of scales rounded up."""
    total = 0
    for rows in (problem.keys, problem.values):
        fmt = rows.format
        if fmt is None:
            depth = problem.keys.depth if rows.name == "key" else problem.value_columns
            columns = sixteens(depth)
            total += schedule.block_keys * (columns * 2 + ROW_PAD)
            continue
        tiles, words = schedule.block_keys // KEYS, code_words(rows)
        if rows.name == "value":
            words = problem.value_columns // PACKET_ROWS * LANES * fmt.bits
        total += tiles * words * 4
        for role, (shape, kind) in fmt.part_specs(1, rows.depth).items():
            if role != fmt.code_part:
                total += schedule.block_keys * shape[-1] * kind.itemsize + 16
    if problem.keys.format is not None or problem.values.format is not None:
        total += schedule.block_keys * 4 + 16  # the flags of rows that are not finite
    return -(-total // SWIZZLE_ATOM) * SWIZZLE_ATOM if schedule.warp_groups else total


def shared_bytes(problem: AttentionProblem, schedule: AttentionSchedule) -> int:
    """An upper bound of the dynamic shared memory of a block."""
    pipeline = schedule.stages * stage_bytes(problem, schedule)
    if schedule.warp_groups:
        pipeline += placed_bytes(problem, schedule.keys)
    reduced = schedule.warps * schedule.rows * problem.value_columns * 4
    tables = sum(len(table) << TABLE_STRIDE for table in set(problem.tables))
    return max(pipeline, reduced if schedule.share_keys else 0) + tables


def lane_sums(problem: AttentionProblem, schedule: AttentionSchedule) -> int:
    """Accumulators of a lane: of values and of scores."""
    return schedule.rows // 16 * (problem.value_columns + schedule.keys) // 2


def illegal(
    problem: AttentionProblem, schedule: AttentionSchedule, device: Machine
) -> Iterator[str]:
    """The reasons why this schedule cannot be built, none if it can."""
    s = schedule
    if s.rows % 16 or s.keys % 16 or min(s.warps, s.rows, s.keys, s.splits) < 1:
        yield f"{s.rows} rows and {s.keys} keys must be multiples of 16"
    if s.keys != KEYS and (problem.keys.format or problem.values.format):
        yield f"packed keys and values lie in tiles of {KEYS}, not {s.keys}"
    if s.stages < 2:
        yield "a pipeline needs 2 stages"
    if s.warp_groups:
        yield from unfit_for_groups(problem, s, device)
    if 32 * s.warps > device.threads_per_block:
        yield f"{s.warps} warps are more than a block of {device.name} has"
    if lane_sums(problem, s) > MOST_SUMS:
        yield f"{lane_sums(problem, s)} sums a lane are more than {MOST_SUMS}"
    need = shared_bytes(problem, s)
    if need > device.shared_per_block:
        yield f"{need} bytes of shared memory are more than {device.shared_per_block}"


def default_attention(problem: AttentionProblem, target: str = "sm_80") -> AttentionSchedule:
    """
    A legal schedule for every shape.

    Few rows, as in decoding: warps and blocks share the keys. Many: a block has rows of its own.
    """
    if reason := refusal(problem):
        raise UnsupportedError(
            "attention-unsupported",
            "no CUDA kernel for an attention",
            why=reason,
            next_step="choose the format or the group that the reason names",
        )
    device = machine(target)
    for candidate in (*_of_warp_groups(problem), *_preferred(problem)):
        if not any(illegal(problem, candidate, device)):
            return replace(candidate, splits=_splits(problem, candidate, device))
    raise UnsupportedError(
        "schedule-none",
        f"no schedule for {problem}",
        why="; ".join(illegal(problem, AttentionSchedule(1, 16, KEYS, 2), device)),
        next_step="use heads that are less deep",
    )


def _of_warp_groups(problem: AttentionProblem) -> Iterator[AttentionSchedule]:
    """Two groups, so that one multiplies while the other one has its softmax."""
    for warps in (8, 4) if problem.rows > FEW_ROWS else ():
        yield AttentionSchedule(warps, 16, KEYS, 2, warp_groups=True)


def _preferred(problem: AttentionProblem) -> Iterator[AttentionSchedule]:
    few = problem.rows <= FEW_ROWS
    rows = sixteens(problem.rows) if few else 16
    packed = problem.keys.format is not None or problem.values.format is not None
    if few:
        keys = KEYS if packed else 32 if problem.keys.depth <= 64 else 16
        for warps, stages in ((4, 4), (4, 3), (4, 2), (2, 2), (1, 2)):
            yield AttentionSchedule(warps, rows, keys, stages, share_keys=True)
    for warps, keys, stages in ((4, KEYS, 2), (4, 32, 2), (1, KEYS, 2), (4, 16, 2), (1, 16, 2)):
        yield AttentionSchedule(warps, rows, keys, stages, share_keys=few)


def _splits(problem: AttentionProblem, schedule: AttentionSchedule, device: Machine) -> int:
    """Enough blocks of few rows for two on each multiprocessor."""
    if not schedule.share_keys:
        return 1
    blocks = problem.planes * problem.parts * -(-problem.rows // schedule.block_rows)
    return max(1, min(2 * MULTIPROCESSORS[device.name] // blocks, 32))

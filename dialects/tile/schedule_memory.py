"""What a block of a linear layer's kernel holds in shared memory: stages, barriers, a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..formats.packets import LANES, PACKET_COLUMNS, PACKET_ROWS
from .decode_program import TABLE_STRIDE
from .dialect import BANK_ROW, BARRIER_BYTES
from .problem import SCALE_ELEMENTS, LinearProblem, row_roles, x_roles
from .tensor_tiles import operand_bytes

if TYPE_CHECKING:
    from .schedule import Schedule

TENSOR_ALIGNMENT = 1024
PAD_BYTES = 16  # between rows of the epilogue's tile, so that they begin in other banks
RESULT_BYTES = {"f16": 2, "bf16": 2, "f32": 4}


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


def stage_tiles(problem: LinearProblem, schedule: Schedule) -> list[SharedTile]:
    """
    What each stage holds: activations, packets, and scales and zero points of groups.

    Of a schedule that streams: what a block's share of K needs, without its packets.
    """
    operand, s = problem.operand, schedule
    columns = s.share(problem.stored_k) if s.streams else s.depth
    element = "ui8" if operand.bits == 4 else operand.name
    tiles = [SharedTile("x", s.tokens, problem.x_columns(columns), element, -(-operand.bits // 8))]
    if problem.x_format is not None and not s.record.in_tensor_memory:
        size = problem.x_format.block_size
        assert isinstance(size, int)
        blocks = columns // size
        tiles += [SharedTile(each, s.tokens, blocks, "ui8", 1) for each in x_roles(problem)]
    if not s.streams:
        for role, bits in problem.code_parts.items():
            words = s.depth // PACKET_COLUMNS * LANES * bits
            tiles.append(SharedTile(role, s.channels // PACKET_ROWS, words, "ui32", 4))
    for role, kind in row_roles(problem).items():
        if problem.group is not None or role == "zero_point":
            rows = scale_rows(problem.stored_group, columns, s.depth)
            tiles.append(SharedTile(role, rows, schedule.channels, *SCALE_ELEMENTS[kind]))
    return tiles


def scale_rows(group: int | None, columns: int, step: int) -> int:
    """
    Groups that a tile of `columns` columns can touch, which begins at a multiple of `step`.

    >>> scale_rows(128, 64, 64), scale_rows(32, 64, 64), scale_rows(96, 64, 64)
    (1, 2, 2)
    """
    if group is None or (group % columns == 0 and columns == step):
        return 1
    if step % group == 0:
        return columns // group
    return (columns - 2) // group + 2


def shared_bytes(problem: LinearProblem, schedule: Schedule) -> int:
    """Dynamic shared memory of a block; the epilogue reuses the pipeline's, if it may."""
    stage = sum(-(-tile.bytes // BANK_ROW) * BANK_ROW for tile in stage_tiles(problem, schedule))
    if schedule.groups:
        stage = -(-stage // TENSOR_ALIGNMENT) * TENSOR_ALIGNMENT
    if schedule.record.in_tensor_memory:
        made = operand_bytes(problem, schedule)
        stage += -(-made // TENSOR_ALIGNMENT) * TENSOR_ALIGNMENT
    table = len(problem.program.table) << TABLE_STRIDE
    stages = with_epilogue(schedule, stage * schedule.buffers, RESULT_BYTES[problem.result])
    return stages + barrier_bytes(schedule) + table


def with_epilogue(schedule: Schedule, stages: int, result_bytes: int) -> int:
    """
    Bytes of shared memory of stages and epilogue, which takes theirs if it may.

    It holds sums of warps along K, then results of so many bytes, in padded rows.
    """
    s = schedule
    tile, pads = s.channels * s.padded_tokens, s.padded_tokens * PAD_BYTES
    if s.keeps_stages:
        return stages + -(-(tile * result_bytes + pads) // BANK_ROW) * BANK_ROW
    return max(stages, max(1, s.warps_k - 1) * tile * 4 + pads)


def barrier_bytes(schedule: Schedule) -> int:
    """
    Of the two barriers of each stage, in whole rows of banks.

    In tensor memory there are three, one for the end, two for sums of groups, and its address.
    """
    barriers = 2 * BARRIER_BYTES * schedule.stages
    if schedule.record.in_tensor_memory:
        barriers = BARRIER_BYTES * (3 * schedule.stages + 6)
    return -(-barriers // BANK_ROW) * BANK_ROW * (schedule.groups > 0)

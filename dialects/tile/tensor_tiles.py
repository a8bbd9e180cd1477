"""What a schedule of products in tensor memory holds beside its copies: operands, scales, sums."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from typing import TYPE_CHECKING

from ..formats import Format
from ..formats.packets import PACKET_ROWS
from .problem import LinearProblem, signed_scales
from .tensor_memory import COLUMNS, LANES, LEAST_COLUMNS

if TYPE_CHECKING:
    from .schedule import Schedule

SCALES_AT_ONCE = 4
"""Of a row, in a word of tensor memory; 128 rows of them are a copy of 512 bytes, 4 columns."""
COPY_BYTES, COPY_COLUMNS = LANES * SCALES_AT_ONCE, 4
BOX_BYTES = 128
WORKER_WARPS = 8


def is_rescaled(problem: LinearProblem) -> bool:
    """Whether sums of groups are multiplied by scales outside of the products."""
    return problem.group is not None and not problem.blocks


def tensor_chunk(problem: LinearProblem, schedule: Schedule) -> int:
    """Columns of K between two rescalings: as many of a step as share a scale."""
    if not is_rescaled(problem):
        return schedule.depth
    return gcd(problem.stored_group or 0, schedule.depth)


def sums_of_step(problem: LinearProblem, schedule: Schedule) -> int:
    """Sums of groups that a step makes, one for each sign that has a scale."""
    if not is_rescaled(problem):
        return 0
    signs = max(1, len(problem.format.block_scales))
    return signs * schedule.depth // tensor_chunk(problem, schedule)


def sum_buffers(problem: LinearProblem, schedule: Schedule) -> int:
    """Those of a step are read while the next step is multiplied."""
    return max(1, 2 * sums_of_step(problem, schedule))


def scale_copies(schedule: Schedule, rows: int) -> int:
    """Copies of 128 rows of scales that a step takes for one sign of an operand."""
    words = schedule.depth // (SCALES_AT_ONCE * schedule.record.block)
    return words * -(-rows // LANES)


def signs_of(fmt: Format) -> list[str]:
    return [sign for sign, _ in signed_scales(fmt)]


def scale_columns(problem: LinearProblem, schedule: Schedule) -> int:
    if problem.x_format is None:
        return 0
    weights = len(signs_of(problem.format)) * scale_copies(schedule, schedule.channels)
    tokens = len(signs_of(problem.x_format)) * scale_copies(schedule, schedule.tokens)
    return COPY_COLUMNS * (weights + tokens)


def tensor_columns(problem: LinearProblem, schedule: Schedule) -> int:
    """Columns of tensor memory to allocate."""
    sums = schedule.tokens * sum_buffers(problem, schedule)
    used = sums + scale_columns(problem, schedule)
    return max(LEAST_COLUMNS, 1 << (used - 1).bit_length())


def operand_bytes(problem: LinearProblem, schedule: Schedule) -> int:
    """Of what a stage holds beside its copies: operands and scales as the products read them."""
    s, row = schedule, schedule.depth * schedule.record.operand_bits // 8
    weights = 1 if problem.x_format is None else len(signs_of(problem.format))
    if is_rescaled(problem):
        weights = max(1, len(problem.format.block_scales))
    total = weights * s.channels * row
    if problem.x_format is None:
        return total
    signs = len(signs_of(problem.x_format))
    total += (signs > 1) * signs * s.tokens * row
    return total + COPY_BYTES * scale_columns(problem, schedule) // COPY_COLUMNS


def boxes_fit(problem: LinearProblem) -> bool:
    """Whether rows of activations begin at multiples of 16 bytes, as tensor copies need."""
    return problem.k * problem.operand.bits % (16 * 8) == 0


def unfit_for_tensor_memory(problem: LinearProblem, schedule: Schedule) -> Iterator[str]:
    """What tensor copies cannot bring, and the tensor unit not hold or multiply."""
    s = schedule
    if s.channels != LANES or s.warps_n != WORKER_WARPS or s.warps != s.warps_n:
        yield f"{s.channels} channels of {s.warps} warps are not {LANES} of {WORKER_WARPS}"
        return
    if s.tokens & (s.tokens - 1) or not 16 <= s.tokens <= 256:
        yield f"the tensor unit multiplies 16, 32, 64, 128, 256 tokens here, not {s.tokens}"
        return
    if not boxes_fit(problem):
        yield f"rows of {problem.k} {problem.activation} begin on no multiple of 16 bytes"
    if not problem.blocks and problem.strips * PACKET_ROWS < LANES:
        yield f"{problem.n} channels are fewer than the {LANES} of a block"
    padded = problem.group != problem.stored_group and not problem.blocks
    if (problem.memory != problem.activation and not problem.blocks) or padded:
        yield "tensor copies convert nothing and pad no groups"
    if s.depth * s.record.operand_bits // 8 % BOX_BYTES:
        yield f"{s.depth} columns are no boxes of {BOX_BYTES} bytes"
    elif problem.x_format is not None and s.depth % (SCALES_AT_ONCE * s.record.block):
        yield f"{s.depth} columns have no {SCALES_AT_ONCE} scales of {s.record.block}"
    if s.splits > max(1, steps := -(-problem.stored_k // max(s.depth, 1))):
        yield f"{s.splits} blocks share {steps} steps of K; sums that no product writes are unknown"
    if (columns := tensor_columns(problem, s)) > COLUMNS:
        yield f"{columns} columns of tensor memory are more than {COLUMNS}"

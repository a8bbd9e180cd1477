"""What attention by warp groups (sm_90a) needs of a problem and a schedule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .hardware import Machine, is_native
from .problem import WARP_GROUP_INSTRUCTION_OF

if TYPE_CHECKING:
    from .attention_problem import AttentionProblem, AttentionSchedule, Rows

GROUP_BOX = 64  # columns of 16 bits in 128 bytes
MOST_DEPTH = 256
"""Columns of queries that stay in registers."""


def _placed_whole(rows: Rows) -> bool:
    """Whether a row has one scale at most, so that one product meets all of its codes."""
    fmt = rows.format
    if fmt is None:
        return True
    size = fmt.block_size
    return not fmt.splits_signs and not (isinstance(size, int) and size < rows.depth)


def placed_bytes(problem: AttentionProblem, keys: int) -> int:
    """Shared memory of decoded operands, of `keys` keys at a time."""
    columns = (problem.keys, problem.keys.depth), (problem.values, problem.value_columns)
    return sum(2 * keys * depth for rows, depth in columns if rows.format is not None)


def unfit_for_groups(
    problem: AttentionProblem, schedule: AttentionSchedule, device: Machine
) -> Iterator[str]:
    """What products of warp groups do not multiply, or find in shared memory."""
    s, name = schedule, WARP_GROUP_INSTRUCTION_OF.get(problem.operand, "")
    if not name or not is_native(device.name, name):
        yield f"{device.name} has no products of warp groups for {problem.operand}"
    if s.warps % 4 or s.rows != 16 or s.share_keys:
        yield f"{s.warps} warps of {s.rows} rows are no groups of 64 rows"
    for rows in (problem.keys, problem.values):
        if not _placed_whole(rows):
            yield f"products of {rows.spelling} are scaled block by block, or by their sign"
    if s.keys & (s.keys - 1) or problem.value_columns & (problem.value_columns - 1):
        yield f"{s.keys} keys or {problem.value_columns} columns of values are no power of two"
    depths = problem.keys.depth, problem.value_columns
    if any(depth % GROUP_BOX for depth in depths) or problem.keys.depth > MOST_DEPTH:
        yield f"rows of {depths[0]} and {depths[1]} are no boxes of {GROUP_BOX} columns"

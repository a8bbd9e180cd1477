"""Products of two activations: what is multiplied, which block makes what, and what is legal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import UnsupportedError
from ..formats.packets import LANES
from .hardware import Machine, is_native, machine
from .operand_types import OPERAND_TYPES
from .problem import INSTRUCTION_OF
from .warp_memory import ROW_PAD

MANY_ROWS = 512
MOST_SUMS = 128
"""Accumulators of a lane, so that operands and addresses fit beside them."""
UNIT = 16
"""What rows, columns and depth of a warp are multiples of."""


@dataclass(frozen=True)
class MatmulProblem:
    """
    result[b, m, n] = sum over k of left[b, m, k] * right[b, k, n], with `depth` k and `columns` n.

    `left`, `right` and `result` are the types in memory, `operand` that of the factors. `rows` m
    and `batch` are what the schedule is chosen for; kernels take any number.
    """

    depth: int
    columns: int
    left: str = "f16"
    right: str = "f16"
    result: str = "f16"
    operand: str = "f16"
    rows: int = MANY_ROWS
    batch: int = 1

    @property
    def instruction(self) -> str:
        return INSTRUCTION_OF[self.operand]

    @property
    def of_any_size(self) -> MatmulProblem:
        """What the kernel depends on, beside its schedule."""
        return replace(self, rows=MANY_ROWS, batch=1)


@dataclass(frozen=True)
class MatmulSchedule:
    """
    One way to multiply: a warp has 16 * `strips` rows and `columns` columns of the result, and a
    block `warps_m` of them below one another, `warps_n` side by side. It goes along k in steps of
    `depth`, with `stages` buffers of both factors.
    """

    warps_m: int
    warps_n: int
    strips: int
    columns: int
    depth: int
    stages: int

    @property
    def warps(self) -> int:
        return self.warps_m * self.warps_n

    @property
    def warp_rows(self) -> int:
        return UNIT * self.strips

    @property
    def block_rows(self) -> int:
        return self.warps_m * self.warp_rows

    @property
    def block_columns(self) -> int:
        return self.warps_n * self.columns


def default_matmul(problem: MatmulProblem, target: str = "sm_80") -> MatmulSchedule:
    """
    No more rows, columns and depth than there are, in multiples of 16.

    Raises UnsupportedError where `target` does not multiply the operands.
    """
    device, p = machine(target), problem
    columns, depth = min(64, _whole(p.columns)), min(32, _whole(p.depth))
    warps, strips = 1 if p.rows <= 16 else 4, 1 if p.rows <= 256 else 2
    schedule = MatmulSchedule(warps, 1, strips, columns, depth, 3)
    if reasons := list(illegal(problem, schedule, device)):
        raise UnsupportedError(
            "schedule-none",
            f"no schedule for {problem}",
            why="; ".join(reasons),
            next_step="report this shape",
        )
    return schedule


def _whole(size: int) -> int:
    return -(-size // UNIT) * UNIT


def shared_bytes(problem: MatmulProblem, schedule: MatmulSchedule) -> int:
    """Of a block: rows of both factors, padded so that eight lie in different banks."""
    s, size = schedule, OPERAND_TYPES[problem.operand].bits // 8
    left = s.block_rows * (s.depth * size + ROW_PAD)
    right = s.depth * (s.block_columns * size + ROW_PAD)
    return s.stages * (left + right)


def lane_sums(schedule: MatmulSchedule) -> int:
    return schedule.warp_rows * schedule.columns // LANES


def illegal(problem: MatmulProblem, schedule: MatmulSchedule, device: Machine) -> Iterator[str]:
    """The reasons why this schedule cannot be built, none if it can."""
    s = schedule
    if not is_native(device.name, problem.instruction):
        yield f"{device.name} has no {problem.instruction}"
    if min(s.warps_m, s.warps_n, s.strips) < 1 or s.columns % UNIT or s.depth % UNIT:
        yield f"tiles of {s.columns} columns and {s.depth} k are no multiples of {UNIT}"
        return
    if s.stages < 2:
        yield "a pipeline needs 2 stages"
    if LANES * s.warps > device.threads_per_block:
        yield f"{s.warps} warps are more than a block of {device.name} has"
    if lane_sums(s) > MOST_SUMS:
        yield f"{lane_sums(s)} sums a lane are more than {MOST_SUMS}"
    if (s.warps_n - 1) * s.columns >= problem.columns:
        yield f"{s.warps_n} warps of {s.columns} columns have more than {problem.columns}"
    need = shared_bytes(problem, s)
    if need > device.shared_per_block:
        yield f"{need} bytes of shared memory are more than {device.shared_per_block}"

"""
What can be tuned of a product of two activations: the fields of its schedule, and what one costs
on paper (estimate.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

from ..knobs import Space, Value
from .estimate import Estimate, Work, estimated, row_turns
from .hardware import Machine, machine
from .matmul_problem import MatmulProblem, MatmulSchedule, illegal, shared_bytes
from .operand_types import OPERAND_TYPES
from .register_model import Resources, predicted
from .register_terms import matmul_terms
from .schedule_space import ScheduleSpace, schedule_from
from .warp_memory import ROW_PAD

KERNEL = "cuda.matmul"
VALUES: dict[str, tuple[Value, ...]] = {
    "warps_m": (1, 2, 4, 8),
    "warps_n": (1, 2, 4, 8),
    "strips": (1, 2, 3, 4),
    "columns": (16, 32, 48, 64, 96, 128),
    "depth": (16, 32, 64, 128),
    "stages": (2, 3, 4, 5, 6),
}
BYTES = {"f32": 4, "f16": 2, "bf16": 2}


def matmul_space(
    problem: MatmulProblem, target: str, include: Sequence[MatmulSchedule] = ()
) -> Space:
    """The schedules of a problem on a machine, the values of those of `include` among them."""
    device, p = machine(target), problem
    return ScheduleSpace(
        MatmulSchedule,
        VALUES,
        lambda schedule: illegal(problem, schedule, device),
        lambda schedule: estimate(problem, schedule, device),
        include,
    ).space(f"{KERNEL} {p.batch} x {p.rows}x{p.depth}x{p.columns} {p.left} x {p.right} {target}")


def matmul_schedule_of(values: Mapping[str, Value]) -> MatmulSchedule:
    """Undo `values_of`."""
    return schedule_from(MatmulSchedule, values)


def estimate(
    problem: MatmulProblem,
    schedule: MatmulSchedule,
    device: Machine,
    measured: Resources | None = None,
) -> Estimate:
    """With what ptxas `measured` of a thread in place of what is predicted."""
    p, s = problem, schedule
    row_tiles, column_tiles = ceil(p.rows / s.block_rows), ceil(p.columns / s.block_columns)
    steps = ceil(p.depth / s.depth)
    left, right = (float(p.batch) * size * p.depth for size in (p.rows, p.columns))
    results = float(p.batch) * p.rows * p.columns * BYTES[p.result]
    read = left * BYTES[p.left], right * BYTES[p.right]
    size = OPERAND_TYPES[p.operand].bits / 8
    work = Work(
        instruction=p.instruction,
        threads=32 * s.warps,
        resources=measured or predicted(matmul_terms(p, s, device)),
        shared=shared_bytes(p, s),
        blocks=row_tiles * column_tiles * p.batch,
        dram=sum(read) + results,
        l2=read[0] * column_tiles + read[1] * row_tiles + results,
        staged=2 * size * (left * column_tiles + right * row_tiles),
        decoded=1.0,
        products=float(p.batch)
        * (row_tiles * s.block_rows)
        * (column_tiles * s.block_columns)
        * (steps * s.depth),
        steps=steps,
        stages=s.stages,
        conflicts=row_turns(int(s.depth * size) + ROW_PAD),
    )
    return estimated(work, device)

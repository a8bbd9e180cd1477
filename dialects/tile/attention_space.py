"""
What can be tuned of attention on tensor cores: the fields of its schedule, and what one costs on
paper (estimate.py).

A schedule does not depend on the number of keys, but what it costs does: `keys` is what it is
chosen for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

from ..knobs import Space, Value
from .attention_problem import (
    AttentionProblem,
    AttentionSchedule,
    Rows,
    illegal,
    shared_bytes,
    sixteens,
)
from .estimate import Estimate, Work, estimated, row_turns
from .hardware import Machine, machine
from .register_model import Resources, predicted
from .register_terms import attention_terms
from .schedule_space import ScheduleSpace, schedule_from
from .warp_memory import ROW_PAD

KERNEL = "cuda.attention"
VALUES: dict[str, tuple[Value, ...]] = {
    "warps": (1, 2, 4, 8),
    "rows": (16, 32, 48, 64),
    "keys": (16, 32, 48, 64, 96, 128),
    "stages": (2, 3, 4, 5),
    "splits": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
}
SOFTMAX_SLOTS = 12.0
"""Operations on a score besides the products: scaling, masks, maxima, the exponential, sums."""


def attention_space(
    problem: AttentionProblem,
    keys: int,
    target: str,
    include: Sequence[AttentionSchedule] = (),
) -> Space:
    """The schedules of a problem on a machine, the values of those of `include` among them."""
    device, p = machine(target), problem
    return ScheduleSpace(
        AttentionSchedule,
        VALUES,
        lambda schedule: illegal(problem, schedule, device),
        lambda schedule: estimate(problem, keys, schedule, device),
        include,
    ).space(
        f"{KERNEL} {p.keys.depth} rows={p.rows} planes={p.planes} keys={keys} "
        f"{p.keys.spelling or p.operand} {target}"
    )


def attention_schedule_of(values: Mapping[str, Value]) -> AttentionSchedule:
    """Undo `values_of`."""
    return schedule_from(AttentionSchedule, values)


def estimate(
    problem: AttentionProblem,
    keys: int,
    schedule: AttentionSchedule,
    device: Machine,
    measured: Resources | None = None,
) -> Estimate:
    """With what ptxas `measured` of a thread in place of what is predicted."""
    p, s = problem, schedule
    tiles, depth = ceil(p.rows / s.block_rows), p.keys.depth + p.values.depth
    share = ceil(keys / s.splits / s.block_keys) * s.block_keys
    visited = p.planes * p.parts * tiles * s.splits * float(share) * _seen(p, keys)
    stored = sum(rows.depth * _bits(rows) for rows in (p.keys, p.values)) / 8
    ends = 2.0 * p.planes * p.rows * depth
    partials = 2 * 4.0 * s.splits * p.planes * p.rows * p.values.depth * (s.splits > 1)
    packed = p.keys.format is not None or p.values.format is not None
    work = Work(
        instruction=p.instruction,
        threads=32 * s.warps,
        resources=measured or predicted(attention_terms(p, s, device)),
        shared=shared_bytes(p, s),
        blocks=tiles * p.planes * p.parts * s.splits,
        dram=p.planes * keys * stored + ends,
        l2=visited * stored + ends + partials,
        staged=2 * visited * stored,
        decoded=1 + visited * depth * packed * (1 if s.share_keys else s.warps),
        products=visited * s.block_rows * depth,
        steps=share / s.block_keys,
        stages=s.stages,
        conflicts=_conflicts(p, s),
        slots=SOFTMAX_SLOTS * visited * s.block_rows,
        launches=1 + (s.splits > 1),
    )
    return estimated(work, device)


def _seen(problem: AttentionProblem, keys: int) -> float:
    """The share of keys that blocks of many causal rows meet."""
    queries = problem.rows / problem.group
    return 1 - queries / (2 * max(keys, queries)) if problem.causal else 1.0


def _conflicts(problem: AttentionProblem, schedule: AttentionSchedule) -> int:
    """Of keys and values that are not packed; those that warp groups read are swizzled."""
    plain = [rows for rows in (problem.keys, problem.values) if rows.format is None]
    if schedule.warp_groups:
        return 1
    return max((row_turns(2 * sixteens(each.depth) + ROW_PAD) for each in plain), default=1)


def _bits(rows: Rows) -> float:
    if rows.format is not None:
        return float(rows.format.bits)
    return 32.0 if rows.element == "f32" else 16.0

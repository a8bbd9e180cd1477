"""A legal schedule for every shape, and better ones where they were measured."""

from __future__ import annotations

from dataclasses import replace

from ..formats import parse_spelling
from .schedule import SCRATCH_BYTES, LinearProblem, LinearSchedule, illegal, scratch_bytes

DEPTH, TASK_ROWS, TASK_PANELS = 2048, 192, 2

MEASURED: dict[tuple[int, int, bool], dict[str, int]] = {
    # GPT-2's second feed-forward layer: long rows and few channels.
    (768, 3072, True): {"keep": True},
}
"""(n, k, integers) → what differs from the rule, with AVX-512."""


def default_schedule(problem: LinearProblem, features: frozenset[str]) -> LinearSchedule:
    """
    A legal schedule for any problem.

    8 x 2 sums of fp32, or 8 sums of integers, keep both multipliers busy with 32 registers; of
    half as wide ones there are 16. Codes whose bytes cost more than a look-up are kept.
    """
    wide = "avx512f" in features
    if problem.integers:
        rows, panels = (8 if wide else 4 // problem.operands), 1
    else:
        rows, panels = (8, 2) if wide else (6, 1)
    schedule = LinearSchedule(
        rows, panels, TASK_ROWS, TASK_PANELS, _depth(problem), _costly(problem)
    )
    schedule = replace(schedule, keep=schedule.keep and _fits(problem, schedule))
    measured = MEASURED.get((problem.n, problem.k, problem.integers)) if wide else None
    if measured:
        better = replace(schedule, **measured)
        return schedule if any(illegal(problem, better, features)) else better
    return schedule


def _depth(problem: LinearProblem) -> int:
    """Whole blocks, or whole units of a row's only block."""
    granule = problem.granule
    return max(1, DEPTH // granule) * granule


def _costly(problem: LinearProblem) -> bool:
    """Whether several operations make a byte of a code: two tables, or zero points of some."""
    if not problem.integers:
        return False
    fmt = parse_spelling(problem.spelling)
    some = fmt.zero_point is not None and not fmt.zero_point_codes().all()
    return fmt.splits_signs or some


def _fits(problem: LinearProblem, schedule: LinearSchedule) -> bool:
    return scratch_bytes(problem, schedule) <= SCRATCH_BYTES // 2

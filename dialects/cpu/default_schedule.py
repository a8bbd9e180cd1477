"""A legal schedule for every shape, and better ones where they were measured."""

from __future__ import annotations

from dataclasses import replace

from ..formats import parse_spelling
from .schedule import SCRATCH_BYTES, LinearProblem, LinearSchedule, illegal, scratch_bytes

DEPTH, TASK_ROWS, TASK_PANELS = 2048, 192, 2
PAYS = 0.95
SETS = 4096
"""Bytes after which lines of a first-level cache share a set."""

MEASURED: dict[tuple[int, int, bool], dict[str, int]] = {
    # GPT-2's second feed-forward layer: long rows and few channels.
    (768, 3072, True): {"keep": True},
}
"""(n, k, integers) → what differs from the rule, with AVX-512."""


def default_schedule(
    problem: LinearProblem, features: frozenset[str], m: int | None = None
) -> LinearSchedule:
    """
    A legal schedule for any problem.

    8 x 2 sums of fp32, or 8 sums of integers, keep both multipliers busy with 32 registers; of
    half as wide ones there are 16. Codes whose bytes cost more than a look-up are kept. Where `m`
    rows of x are known, tiles divide them evenly.
    """
    wide = "avx512f" in features
    if problem.integers:
        rows, panels = (8 if wide else 4 // problem.operands), 1
    else:
        rows, panels = (8, 2) if wide else (6, 1)
    if wide and m is not None:
        rows = _even(m, rows, _most_rows(problem))
    schedule = LinearSchedule(
        rows,
        panels,
        TASK_ROWS // rows * rows,
        TASK_PANELS,
        _depth(problem),
        _costly(problem),
    )
    schedule = replace(schedule, keep=schedule.keep and _fits(problem, schedule))
    measured = MEASURED.get((problem.n, problem.k, problem.integers)) if wide else None
    if measured:
        better = replace(schedule, **measured)
        return schedule if any(illegal(problem, better, features)) else better
    return schedule


def _even(m: int, rows: int, most: int) -> int:
    """
    Of a tile for `m` rows of x: `rows`, or another number that takes clearly less time.

    A tile takes as long as its rows and one more, in which weights are read.

    >>> [_even(m, 8, 12) for m in (5, 6, 12, 16, 20, 24, 30, 128)]
    [5, 6, 12, 8, 10, 8, 10, 8]
    """

    def cost(rows: int) -> int:
        return -(-m // rows) * (rows + 1)

    best = min(range(most, 0, -1), key=cost)
    return best if cost(best) < PAYS * cost(rows) else rows


def _most_rows(problem: LinearProblem) -> int:
    """
    So many that sums stay in registers; of fp32 x, addresses of rows too, for every k.

    More than eight rows of fp32 in the same sets of a cache would evict each other.
    """
    if problem.integers:
        return 8 if problem.operands > 1 else 12
    return 8 if 4 * problem.k % SETS == 0 else 10


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

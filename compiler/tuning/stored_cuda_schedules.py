"""
Schedules of linear layers on tensor cores out of a tuning database; else those of their shapes.

A kernel takes what was tuned for its shape, formats and tokens on its machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...autotune.database import Store, best_of
from ...dialects.tile.default_schedule import default_schedule
from ...dialects.tile.hardware import machine
from ...dialects.tile.problem import LinearProblem
from ...dialects.tile.schedule import Schedule, illegal
from ...dialects.tile.space import schedule_of, values_of
from .choices import NOT_TUNED, Choice, reasons_against
from .cuda_jobs import cuda_task


class StoredCudaSchedules:
    """Stores by name, the earlier before the later; `choices` grows as kernels are written."""

    def __init__(self, stores: Sequence[tuple[str, Store]]) -> None:
        self._stores = stores
        self.choices: list[Choice] = []

    def choose(self, problem: LinearProblem, name: str) -> Schedule:
        """A Chooser of `schedule_linear`."""
        task, reasons = cuda_task(problem, name), [NOT_TUNED]
        kernel = f"{task.format} {problem.n}x{problem.k}, {problem.tokens} tokens"
        for source, store in self._stores:
            best = best_of(store.measurements(task))
            if best is not None:
                reasons = reasons_against(
                    best.values, schedule_of, lambda made: illegal(problem, made, machine(name))
                )
                if not reasons:
                    self.choices.append(Choice(kernel, best.values, source))
                    return schedule_of(best.values)
        made = default_schedule(problem, name)
        self.choices.append(Choice(kernel, values_of(made), reason="; ".join(reasons)))
        return made

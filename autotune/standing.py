"""Who leads among the trials of a job, less what failed when it was built again."""

from __future__ import annotations

from collections.abc import Mapping

from ..dialects.knobs import Value
from .trials import Trial, Trials
from .tuned import Job


class Standing:
    def __init__(self, job: Job, trials: Trials) -> None:
        self._job, self._trials = job, trials
        self._struck: set[tuple[int, ...]] = set()

    def strike(self, values: Mapping[str, Value]) -> None:
        """Out for good."""
        self._struck.add(self._job.space.config(values))

    @property
    def default_seconds(self) -> float | None:
        """The least of the default, None where it failed."""
        at = self._job.space.config(self._job.default)
        own = (t.seconds for t in self._working() if t.config == at and t.seconds is not None)
        return min(own, default=None)

    def rivals(self, count: int) -> list[dict[str, Value]]:
        """The fastest that took less than the default; of all, where that failed."""
        space, default = self._job.space, self.default_seconds
        limit = float("inf") if default is None else default
        faster = {t.config: t.seconds for t in self._working() if t.seconds and t.seconds < limit}
        fastest = sorted(faster, key=lambda config: faster[config])
        return [space.values(config) for config in fastest[:count]]

    def _working(self) -> list[Trial]:
        """Of configs that never gave wrong results, nor failed when they were compared."""
        trials = self._trials.trials
        wrong = {trial.config for trial in trials if trial.failure == "correctness"} | self._struck
        return [t for t in trials if t.seconds is not None and t.config not in wrong]

"""What was measured, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..dialects.knobs import Configs


@dataclass(frozen=True)
class Trial:
    """
    One measured config. `seconds` is None where it failed, and `failure` then says how:
    "compile", "runtime", "correctness", "timeout", "constraints" (the words of T4 results).
    """

    config: tuple[int, ...]
    seconds: float | None
    failure: str = ""


@dataclass
class Trials:
    """All trials of one space, as arrays for models."""

    trials: list[Trial] = field(default_factory=list)

    def add(self, trials: list[Trial]) -> None:
        self.trials.extend(trials)

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def configs(self) -> Configs:
        return np.array([trial.config for trial in self.trials], np.int64)

    @property
    def log_times(self) -> NDArray[np.float64]:
        """Natural logarithms of seconds; failed trials count as twice the slowest that worked."""
        seconds = np.array([np.nan if t.seconds is None else t.seconds for t in self.trials])
        slowest = 1.0 if np.isnan(seconds).all() else np.nanmax(seconds)
        return np.log(np.where(np.isnan(seconds), 2 * slowest, seconds))

    @property
    def best(self) -> Trial | None:
        """The fastest that worked."""
        worked = [trial for trial in self.trials if trial.seconds is not None]
        return min(worked, key=lambda trial: trial.seconds or 0.0, default=None)

    def best_so_far(self) -> NDArray[np.float64]:
        """The least seconds of the first n trials, [count]; infinite before one worked."""
        seconds = [np.inf if t.seconds is None else t.seconds for t in self.trials]
        return np.minimum.accumulate(np.array(seconds))

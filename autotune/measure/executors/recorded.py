"""Candidates that were all measured before: a recorded space as the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...measurement import Measurement
from ...recorded import Recording
from ...task import Task
from ..backend import Values
from .base import NotCompared, Rounds


@dataclass(frozen=True)
class RecordedExecutor:
    """What a recording says of its configs; nothing is built and nothing waited for."""

    recording: Recording

    def measure(self, task: Task, configs: Sequence[Values]) -> Iterator[tuple[int, Measurement]]:
        space = self.recording.space
        rows = np.array([space.config(values) for values in configs], np.int64)
        trials = self.recording.measure(rows.reshape(-1, len(space.knobs)))
        for place, (values, trial) in enumerate(zip(configs, trials, strict=True)):
            yield (
                place,
                Measurement(
                    values=dict(values),
                    seconds=trial.seconds,
                    failure=trial.failure,
                    checked=trial.seconds is not None,
                ),
            )

    def compare(self, task: Task, configs: Sequence[Values], rounds: int) -> Rounds | NotCompared:
        """Each round has the same times: there is one of each config."""
        found = [made for _, made in self.measure(task, configs)]
        for made in found:
            if made.seconds is None:
                return NotCompared.of(made)
        return [[made.seconds or 0.0 for made in found] for _ in range(rounds)]

    def close(self) -> None:
        """Nothing is held."""

"""
Simulated annealing: chains that step to a neighbour and go back unless it pays.

A chain at time t accepts a step to t' with probability exp(-ln(t'/t) / T); T falls from `hot` to
`cold` over `steps` proposals, then begins anew from the best.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...dialects.knobs import Configs, Space
from ..draw import mutated
from ..trials import Trial, Trials
from .random_search import fresh

PATIENCE = 30


@dataclass
class AnnealingSearch:
    space: Space
    rng: np.random.Generator
    hot: float = 0.5
    cold: float = 0.01
    steps: int = 200
    _at: Trial | None = None
    _asked: int = 0
    _seen: int = 0
    _pending: set[tuple[int, ...]] = field(default_factory=set)

    def propose(self, trials: Trials, count: int) -> Configs:
        self._advance(trials)
        known = {trial.config for trial in trials.trials}
        found: list[NDArray[np.int64]] = []
        for _ in range(PATIENCE * count):
            if self._at is None or len(found) == count:
                break
            step = mutated(self.space, self.rng, np.array([self._at.config]), changes=1)
            if len(step) and tuple(step[0].tolist()) not in known:
                known.add(tuple(step[0].tolist()))
                found.append(step[0])
        if not found:
            return fresh(self.space, self.rng, trials, 1)
        return np.stack(found)

    def _advance(self, trials: Trials) -> None:
        """Moves the chain over the trials that came since the last call."""
        for trial in trials.trials[self._seen :]:
            self._asked += 1
            if trial.seconds is not None and self._accepts(trial.seconds):
                self._at = trial
        self._seen = len(trials)
        if self._asked >= self.steps:
            self._asked, self._at = 0, trials.best

    def _accepts(self, seconds: float) -> bool:
        if self._at is None or self._at.seconds is None:
            return True
        share = min(1.0, self._asked / self.steps)
        temperature = self.hot * (self.cold / self.hot) ** share
        loss = np.log(seconds / self._at.seconds)
        return bool(loss <= 0 or self.rng.random() < np.exp(-loss / temperature))

"""
Simulated annealing: chains that step to a neighbour and go back unless it pays.

A chain at time t accepts a step to t' with probability exp(-ln(t'/t) / T); T falls from `hot` to
`cold` over `steps` proposals, then begins anew from the best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dialects.knobs import Configs, Space
from ..draw import mutated, unique
from ..trials import Trial, Trials
from .base import untried
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

    def propose(self, trials: Trials, count: int) -> Configs:
        self._advance(trials)
        if self._at is None:
            return fresh(self.space, self.rng, trials, 1)
        steps = np.repeat(np.array([self._at.config]), PATIENCE * count, axis=0)
        moved = mutated(self.space, self.rng, steps, changes=1)
        found = untried(self.space, trials, unique(self.space, moved))
        return found[:count] if len(found) else fresh(self.space, self.rng, trials, 1)

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

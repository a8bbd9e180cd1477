"""
Evolution on measured times: the fastest are parents, children cross and mutate.

Tournaments of `rivals` choose parents among the `population` fastest trials.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dialects.knobs import Configs, Space
from ..draw import crossed, mutated, unique
from ..trials import Trials
from .base import untried
from .random_search import fresh

ROUNDS = 30


@dataclass
class EvolutionSearch:
    space: Space
    rng: np.random.Generator
    population: int = 20
    rivals: int = 3
    mutation: float = 0.7

    def propose(self, trials: Trials, count: int) -> Configs:
        if len(trials) < self.population:
            return fresh(self.space, self.rng, trials, min(count, self.population - len(trials)))
        order = np.argsort(trials.log_times, kind="stable")[: self.population]
        elite = trials.configs[order]
        found = np.zeros((0, elite.shape[1]), np.int64)
        for _ in range(ROUNDS):
            children = crossed(self.space, self.rng, *(self._parents(elite, count) for _ in "ab"))
            changed = self.rng.random(len(children)) < self.mutation
            children = np.concatenate(
                [children[~changed], mutated(self.space, self.rng, children[changed])]
            )
            found = unique(
                self.space, np.concatenate([found, untried(self.space, trials, children)])
            )
            if len(found) >= count:
                return found[:count]
        return np.concatenate([found, fresh(self.space, self.rng, trials, count - len(found))])

    def _parents(self, elite: Configs, count: int) -> Configs:
        """The best of each tournament; `elite` is sorted, so that is the least place."""
        return elite[self.rng.integers(len(elite), size=(count, self.rivals)).min(axis=1)]

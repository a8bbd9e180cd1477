"""
AutoTVM's way, as a baseline: annealing on the scores of boosted trees, the best of it measured.

Chains persist from proposal to proposal; temperature falls linearly from 1 to 0 over the steps of
one; the first plan and a twentieth of each later one is random. Constants are AutoTVM's, the
chains are fewer steps long (it stops early, too).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...dialects.knobs import Configs, Space
from ..cost_model.base import Numbers
from ..cost_model.boosted_trees import BoostedTrees, TreeOptions
from ..draw import changed, draw, unique
from ..features import Encoder
from ..trials import Trials
from .base import untried
from .random_search import fresh

CHAINS, STEPS, PLAN, RANDOM = 128, 60, 64, 0.05
REGRESSION = TreeOptions("reg:squarederror", members=1, depth=3, rate=0.3, rounds=100)


@dataclass
class ModelAnnealingSearch:
    space: Space
    rng: np.random.Generator
    model: BoostedTrees = field(default_factory=lambda: BoostedTrees(REGRESSION))
    _chains: Configs | None = None
    _plan: list[tuple[int, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._encode = Encoder.of(self.space, draw(self.space, self.rng, 1024))

    def propose(self, trials: Trials, count: int) -> Configs:
        """From a plan of 64, which is made anew, by all trials so far, when it is used up."""
        if len(trials) < PLAN:
            return fresh(self.space, self.rng, trials, count)
        if not self._plan:
            self._plan = self._planned(trials)
        some, self._plan = self._plan[:count], self._plan[count:]
        new = untried(
            self.space, trials, np.array(some, np.int64).reshape(-1, len(self.space.knobs))
        )
        return new if len(new) else fresh(self.space, self.rng, trials, count)

    def _planned(self, trials: Trials) -> list[tuple[int, ...]]:
        self.model.update(self._encode(trials.configs), trials.log_times)
        visited = unique(self.space, self._annealed())
        candidates = untried(self.space, trials, visited)
        best = candidates[np.argsort(self._times(candidates), kind="stable")]
        chosen = best[: PLAN - int(PLAN * RANDOM)]
        rest = fresh(self.space, self.rng, trials, PLAN - len(chosen))
        return [tuple(config) for config in np.concatenate([chosen, rest]).tolist()]

    def _times(self, configs: Configs) -> Numbers:
        return self.model.predict(self._encode(configs)).mean

    def _annealed(self) -> Configs:
        """All configs that the chains visit."""
        chains = draw(self.space, self.rng, CHAINS) if self._chains is None else self._chains
        times, visited = self._times(chains), [chains]
        for step in range(STEPS):
            temperature = max(1 - step / STEPS, 1e-6)
            rows, moved = _moved(self.space, self.rng, chains)
            if not len(rows):
                continue
            after = self._times(moved)
            gain = np.minimum((times[rows] - after) / temperature, 0.0)
            goes = self.rng.random(len(rows)) < np.exp(gain)
            chains[rows[goes]], times[rows[goes]] = moved[goes], after[goes]
            visited.append(moved)
        self._chains = chains
        return np.concatenate(visited)


def _moved(
    space: Space, rng: np.random.Generator, chains: Configs
) -> tuple[NDArray[np.int64], Configs]:
    """A step of each chain that has a legal one: their places, and where they would go."""
    moved = changed(space, rng, chains, 1)
    legal = np.flatnonzero(space.legal(moved))
    return legal, moved[legal]

"""Legal configs drawn at random: the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dialects.knobs import Configs, Space
from ..draw import draw, unique
from ..trials import Trials
from .base import untried

ROUNDS = 20


@dataclass
class RandomSearch:
    space: Space
    rng: np.random.Generator

    def propose(self, trials: Trials, count: int) -> Configs:
        return fresh(self.space, self.rng, trials, count)


def fresh(space: Space, rng: np.random.Generator, trials: Trials, count: int) -> Configs:
    """Up to `count` different configs that were not tried."""
    found = np.zeros((0, len(space.knobs)), np.int64)
    for _ in range(ROUNDS):
        more = untried(space, trials, draw(space, rng, 2 * count))
        found = unique(space, np.concatenate([found, more]))
        if len(found) >= count:
            break
    if not len(found) and space.members is not None:
        found = untried(space, trials, space.members)
    return found[:count]

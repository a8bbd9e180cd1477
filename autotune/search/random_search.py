"""Legal configs drawn at random: the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dialects.knobs import Configs, Space
from ..draw import draw, every, unique
from ..trials import Trials
from .base import untried

ROUNDS = 20
FEW_POINTS, MANY_DRAWS = 1 << 14, 4096
"""A space of few points is gone through for what was never drawn; of a larger many are drawn."""


@dataclass
class RandomSearch:
    space: Space
    rng: np.random.Generator

    def propose(self, trials: Trials, count: int) -> Configs:
        return fresh(self.space, self.rng, trials, count)


def fresh(space: Space, rng: np.random.Generator, trials: Trials, count: int) -> Configs:
    """
    Up to `count` different configs that were not tried; of a space of few points or of members,
    none only when all were.
    """
    found = np.zeros((0, len(space.knobs)), np.int64)
    for _ in range(ROUNDS):
        more = untried(space, trials, draw(space, rng, 2 * count))
        found = unique(space, np.concatenate([found, more]))
        if len(found) >= count:
            break
    return found[:count] if len(found) else _left(space, rng, trials, count)


def _left(space: Space, rng: np.random.Generator, trials: Trials, count: int) -> Configs:
    if space.members is not None:
        return untried(space, trials, space.members)[:count]
    if space.points > FEW_POINTS:
        return unique(space, untried(space, trials, draw(space, rng, MANY_DRAWS)))[:count]
    new = (untried(space, trials, some) for some in every(space))
    return next(filter(len, new), np.zeros((0, len(space.knobs)), np.int64))[:count]

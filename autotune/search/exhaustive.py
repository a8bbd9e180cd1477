"""Every legal config, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ...dialects.knobs import Configs, Space
from ..draw import every
from ..trials import Trials
from .base import untried


@dataclass
class ExhaustiveSearch:
    space: Space
    rng: np.random.Generator
    _rest: Iterator[Configs] | None = field(default=None, repr=False)

    def propose(self, trials: Trials, count: int) -> Configs:
        if self._rest is None:
            self._rest = every(self.space)
        found = np.zeros((0, len(self.space.knobs)), np.int64)
        for chunk in self._rest:
            found = np.concatenate([found, untried(self.space, trials, chunk)])
            if len(found) >= count:
                break
        if len(found) > count:
            rest = self._rest
            self._rest = _before(found[count:], rest)
        return found[:count]


def _before(first: Configs, rest: Iterator[Configs]) -> Iterator[Configs]:
    yield first
    yield from rest

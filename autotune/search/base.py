"""What the tuning loop asks of a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...dialects.knobs import Configs, Space
from ..trials import Trials


class Search(Protocol):
    """Proposes configs of one space; sees all trials so far, also those it did not propose."""

    def propose(self, trials: Trials, count: int) -> Configs:
        """
        Up to `count` legal configs that were not tried, [≤ count, knobs]; none when the space is
        used up.
        """
        ...


Maker = Callable[[Space, np.random.Generator], Search]


@dataclass(frozen=True)
class Strategy:
    """A search by name, for the command line and the tables."""

    name: str
    meaning: str
    make: Maker


def untried(space: Space, trials: Trials, configs: Configs) -> Configs:
    """Those of `configs` that no trial has."""
    if not len(trials):
        return configs
    return configs[~np.isin(space.keys(configs), space.keys(trials.configs))]

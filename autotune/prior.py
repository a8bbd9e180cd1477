"""Guided searches that begin where an estimate, a number that the space derives, is best."""

from __future__ import annotations

import numpy as np

from ..dialects.errors import UsageError
from ..dialects.knobs import Configs, Space
from .cost_model.base import Numbers
from .draw import draw
from .search.base import Maker, Search, Strategy
from .search.guided import GuidedOptions, GuidedSearch, Known

SAMPLE = 1024
GUIDED = {"distinctive": GuidedOptions(), "guided": GuidedOptions(distinctive=False)}


def with_prior(strategy: Strategy, prior: str) -> Maker:
    """The search of a strategy; those that learn from what is known begin with the estimate."""
    options = GUIDED.get(strategy.name)
    if not prior or options is None:
        return strategy.make

    def make(space: Space, rng: np.random.Generator) -> Search:
        return GuidedSearch(space, rng, options, known=estimated(space, prior))

    return make


def estimated(space: Space, number: str) -> Known:
    """Log slowdowns [count, 1] by the number `number`, against the least of a sample."""

    def logs(configs: Configs) -> Numbers:
        derived = {} if space.derive is None else space.derive(space.columns(configs))
        if number not in derived:
            raise UsageError(
                "prior-missing",
                f"space {space.name!r} derives no {number!r}",
                next_step=f"it derives {', '.join(derived) or 'nothing'}",
            )
        return np.log(np.asarray(derived[number], np.float64))[:, None]

    least = float(logs(draw(space, np.random.default_rng(0), SAMPLE)).min())
    return lambda configs: logs(configs) - least

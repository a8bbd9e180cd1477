"""Guided searches that begin where an estimate, a number that the space derives, is best."""

from __future__ import annotations

import numpy as np

from ..dialects.knobs import Space
from .cost_model.roofline import Roofline
from .search.base import Maker, Search, Strategy
from .search.guided import GuidedOptions, GuidedSearch

GUIDED = {"distinctive": GuidedOptions(), "guided": GuidedOptions(distinctive=False)}


def with_prior(strategy: Strategy, prior: str) -> Maker:
    """
    The search of a strategy; those that learn from what is known begin with the estimate, seconds
    by the name `prior`, if that is not empty.
    """
    options = GUIDED.get(strategy.name)
    if not prior or options is None:
        return strategy.make

    def make(space: Space, rng: np.random.Generator) -> Search:
        return GuidedSearch(space, rng, options, known=Roofline(space, {prior: 1.0}))

    return make

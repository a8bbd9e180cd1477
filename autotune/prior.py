"""
Guided searches that begin with what is known: an estimate that the space derives, and trials of
other tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dialects.knobs import Configs, Space
from .cost_model.base import Numbers
from .cost_model.roofline import Roofline
from .search.base import Maker, Search, Strategy
from .search.guided import GuidedOptions, GuidedSearch, Known
from .transfer import Sources
from .trials import Trials

GUIDED = {"distinctive": GuidedOptions(), "guided": GuidedOptions(distinctive=False)}


def with_prior(strategy: Strategy, prior: str = "", others: Sequence[Trials] = ()) -> Maker:
    """
    The search of a strategy; those that learn from what is known begin with the estimate, seconds
    by the name `prior` if that is not empty, and with the trials of `others`, configs of its space.
    """
    options = GUIDED.get(strategy.name)
    if options is None or not (prior or others):
        return strategy.make

    def make(space: Space, rng: np.random.Generator) -> Search:
        return GuidedSearch(space, rng, options, known=_known(space, prior, others))

    return make


def learns(strategy: Strategy) -> bool:
    """Whether a strategy takes what is known of other tasks."""
    return strategy.name in GUIDED


def _known(space: Space, prior: str, others: Sequence[Trials]) -> Known:
    parts: list[Known] = [Roofline(space, {prior: 1.0})] if prior else []
    if others:
        parts.append(Sources.of(space, others))

    def known(configs: Configs) -> Numbers:
        return np.concatenate([part(configs) for part in parts], axis=1)

    return known

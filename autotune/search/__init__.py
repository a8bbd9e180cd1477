"""The searches, by name."""

from __future__ import annotations

from .annealing import AnnealingSearch
from .base import Search, Strategy
from .evolution import EvolutionSearch
from .exhaustive import ExhaustiveSearch
from .guided import GuidedOptions, GuidedSearch
from .model_annealing import ModelAnnealingSearch
from .random_search import RandomSearch

SEARCHES = {
    strategy.name: strategy
    for strategy in (
        Strategy(
            "distinctive", "model-guided, candidates that differ in their knobs", GuidedSearch
        ),
        Strategy(
            "guided",
            "the same without the diversity rule",
            lambda space, rng: GuidedSearch(space, rng, GuidedOptions(distinctive=False)),
        ),
        Strategy("model-annealing", "AutoTVM's: annealing on boosted trees", ModelAnnealingSearch),
        Strategy("evolution", "genetic search on measured times", EvolutionSearch),
        Strategy("annealing", "simulated annealing with restarts", AnnealingSearch),
        Strategy("random", "legal configs at random", RandomSearch),
        Strategy("exhaustive", "every legal config in order", ExhaustiveSearch),
    )
}

__all__ = ["SEARCHES", "Search", "Strategy"]

"""
The diversity rule of the reduced-precision convolution tuner (arXiv 2202.06819), in our words.

The paper names its idea, a search that learns from distinctive candidates, and publishes neither
rule nor code; this formulation is our own. A set of configs is worth the sum of their scores and a
bonus for each (knob, value) that appears in it. That function is submodular, so that picking
greedily is within 1 - 1/e of the best set (Nemhauser, Wolsey and Fisher 1978).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...dialects.knobs import Configs, Space
from ..draw import mutated, unique

Scores = NDArray[np.float64]
Score = Callable[[Configs], Scores]
HOT, COLD = 1.0, 0.1


def covered(configs: Configs, space: Space) -> NDArray[np.bool_]:
    """Which values of which knobs appear in configs, as [knobs, most values] flags."""
    flags = np.zeros((len(space.knobs), max(len(knob.values) for knob in space.knobs)), bool)
    for column in range(len(space.knobs)):
        flags[column, configs[:, column]] = True
    return flags


def novelty(configs: Configs, seen: NDArray[np.bool_]) -> Scores:
    """The share of knobs [count] whose value is not yet in `seen`."""
    return (~seen[np.arange(configs.shape[1]), configs]).mean(axis=1)


def evolved(
    space: Space,
    rng: np.random.Generator,
    start: Configs,
    score: Score,
    generations: int,
    *,
    distinctive: bool,
) -> Configs:
    """
    Candidates bred from `start` on the score of a model, about twice as many as `start`.

    Each parent has two mutants. Of parents and mutants half survive: with `distinctive` first
    those that bring a value of a knob which no better one has; the rest by score, after noise that
    falls from generation to generation (annealed acceptance).
    """
    population = start
    for generation in range(generations):
        children = mutated(space, rng, np.repeat(population, 2, axis=0))
        pool = unique(space, np.concatenate([population, children]))
        heat = HOT * (COLD / HOT) ** (generation / max(1, generations - 1))
        noisy = _standard(score(pool)) + heat * rng.gumbel(size=len(pool))
        order = np.argsort(-noisy, kind="stable")
        if distinctive:
            order = np.concatenate([*_first_of_values(pool[order], order)])
        population = pool[order[: len(start)]]
    return unique(space, np.concatenate([start, population]))


def _standard(scores: Scores) -> Scores:
    return (scores - scores.mean()) / (scores.std() + 1e-9)


def _first_of_values(
    ranked: Configs, order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`order` split in those that are the first with some value of some knob, and the others."""
    first = np.zeros(len(ranked), bool)
    for column in ranked.T:
        first[np.unique(column, return_index=True)[1]] = True
    return order[first], order[~first]

"""
Model-guided search: propose what a cost model expects most of.

The first trials are spread over the space, or chosen by what is known from other devices and
shapes (`known`). Then, for each proposal: the model learns all trials, candidates are drawn at
random and bred from the fastest, and the one of largest expected improvement is taken; the model
then imagines its result, so that a batch does not ask the same question twice. Where trials fail,
a second model of the same kind learns which, and candidates count by their chance to work. With
`distinctive`, candidates and batches must differ in their knobs (distinctive.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import nnls
from scipy.special import log_ndtr
from scipy.stats import norm

from ...dialects.knobs import Configs, Space
from ..cost_model.base import CostModel, Numbers, Prediction
from ..cost_model.boosted_trees import BoostedTrees, TreeOptions
from ..cost_model.gaussian_process import GaussianProcess
from ..draw import draw, neighbours, unique
from ..features import Encoder, Features
from ..trials import Trials
from .base import untried
from .distinctive import covered, evolved, novelty
from .random_search import fresh

Known = Callable[[Configs], Numbers]
"""Expected log slowdowns [count, sources] of configs, each source a device or shape seen before."""
SAMPLE = 1024
TRUST = 0.05
"""Of what is known, as the squares of log slowdowns that outweigh it."""
FAR = 5.0
"""How many deviations an improvement may be away before its logarithm is cut."""
LEAST_CHANCE = 0.02
HEDGE = 4
"""Each fourth trial is proposed by another model, for where the first is wrong."""
FEW_TRIALS = TreeOptions("reg:squarederror", members=3, rounds=30, depth=4, rate=0.3)


@dataclass(frozen=True)
class GuidedOptions:
    """
    `warm_up`: trials before the model is asked. `pool`: random candidates; `elite`: fastest trials
    whose neighbourhood is searched; `generations`: of breeding. `clip`: slower trials count as this
    quantile of the log times, so that the model spends itself on the fast end. `variety`: the bonus
    of a config whose values are all new in its batch, in units of the log of expected improvement.
    """

    distinctive: bool = True
    warm_up: int = 16
    pool: int = 1024
    elite: int = 8
    generations: int = 4
    clip: float = 0.5
    variety: float = 1.0


@dataclass(frozen=True)
class Described:
    """Configs as a model sees them: features, and what is known of them in log slowdowns."""

    features: Features
    known: Numbers
    """[count, sources]"""


@dataclass
class GuidedSearch:
    space: Space
    rng: np.random.Generator
    options: GuidedOptions = GuidedOptions()
    models: tuple[CostModel, ...] = ()
    """The first proposes, but each fourth trial is the last one's; by default both there are."""
    known: Known | None = None
    failures: GaussianProcess = field(default_factory=GaussianProcess)

    def __post_init__(self) -> None:
        self.models = self.models or (GaussianProcess(), BoostedTrees(FEW_TRIALS))
        self._encode = Encoder.of(self.space, draw(self.space, self.rng, SAMPLE))
        sample = draw(self.space, self.rng, SAMPLE)
        sources = None if self.known is None else self.known(sample)
        self._centre = 0.0 if sources is None else sources.mean(axis=0)
        self._spread = 1.0 if sources is None else sources.std(axis=0) + 1e-9

    def propose(self, trials: Trials, count: int) -> Configs:
        configs = self._proposed(trials, count)
        return configs if len(configs) else fresh(self.space, self.rng, trials, count)

    def _proposed(self, trials: Trials, count: int) -> Configs:
        if self.known is None and len(trials) < self.options.warm_up:
            return self._spread_out(trials, min(count, self.options.warm_up - len(trials)))
        if self.known is not None and trials.best is None:
            return self._expected_best(trials, count, self.known)
        return self._improving(trials, count)

    def _spread_out(self, trials: Trials, count: int) -> Configs:
        """Far from each other and from all trials: farthest point first."""
        pool = untried(
            self.space, trials, unique(self.space, draw(self.space, self.rng, SAMPLE // 4))
        )
        features, taken = self._encode(pool), []
        distance = np.full(len(pool), np.inf)
        if len(trials):
            distance = _nearest(features, self._encode(trials.configs))
        else:
            taken.append(int(self.rng.integers(len(pool))))
            distance = _nearest(features, features[taken])
        while len(taken) < min(count, len(pool)):
            taken.append(int(np.argmax(distance)))
            distance = np.minimum(distance, _nearest(features, features[taken[-1:]]))
        return pool[taken]

    def _expected_best(self, trials: Trials, count: int, known: Known) -> Configs:
        """The best by all sources together, then by each of them, in turn."""
        pool = self._candidates(trials, lambda configs: -known(configs).mean(axis=1))
        sources = known(pool)
        orders = [sources.mean(axis=1), *sources.T]
        taken: list[int] = []
        for turn in range(min(count, len(pool))):
            order = orders[turn % len(orders)].copy()
            if turn >= len(orders) and self.options.distinctive:
                order -= self.options.variety * novelty(pool, covered(pool[taken], self.space))
            order[taken] = np.inf
            taken.append(int(np.argmin(order)))
        return pool[taken]

    def _improving(self, trials: Trials, count: int) -> Configs:
        seen, times = self._described(trials.configs), self._clipped(trials.log_times)
        trust = trusted(seen.known, times)
        times = times - seen.known @ trust
        turns = range(len(trials), len(trials) + count)
        asked = [self.models[0], *map(self._model_of, turns)]
        for model in {id(each): each for each in asked}.values():
            model.update(seen.features, times)
        best = float(trials.log_times.min())
        works = self._chance_to_work(trials, seen.features)

        def score(some: Described, model: CostModel) -> Numbers:
            expected = model.predict(some.features)
            return log_improvement(expected, best - some.known @ trust) + works(some.features)

        def first_score(configs: Configs) -> Numbers:
            return score(self._described(configs), self.models[0])

        pool = self._candidates(trials, first_score)
        described, taken = self._described(pool), []
        for turn in turns[: len(pool)]:
            if taken:
                self._imagine(seen.features, times, described.features[taken])
            values = score(described, self._model_of(turn))
            if self.options.distinctive:
                new = novelty(pool, covered(pool[taken], self.space))
                values = values + self.options.variety * new
            values[taken] = -np.inf
            taken.append(int(np.argmax(values)))
        return pool[taken]

    def _model_of(self, turn: int) -> CostModel:
        """Which model proposes the trial of this number."""
        return self.models[-1 if turn % HEDGE == HEDGE - 1 else 0]

    def _imagine(self, features: Features, times: Numbers, picked: Features) -> None:
        """As if the picked were measured, with what the first model expects of them."""
        guessed = self.models[0].predict(picked).mean
        self.models[0].imagine(np.concatenate([features, picked]), np.concatenate([times, guessed]))

    def _chance_to_work(self, trials: Trials, features: Features) -> Callable[[Features], Numbers]:
        """Logarithm of the chance [count] that a config does not fail."""
        failed = np.array([trial.seconds is None for trial in trials.trials], np.float64)
        if not failed.any():
            return lambda some: np.zeros(len(some))
        self.failures.update(features, failed)
        return lambda some: np.log(np.clip(1 - self.failures.predict(some).mean, LEAST_CHANCE, 1.0))

    def _candidates(self, trials: Trials, score: Callable[[Configs], Numbers]) -> Configs:
        options = self.options
        pool = draw(self.space, self.rng, options.pool)
        if len(trials):
            order = np.argsort(trials.log_times, kind="stable")[: options.elite]
            near = [neighbours(self.space, config) for config in trials.configs[order]]
            pool = np.concatenate([pool, *near])
        pool = unique(self.space, pool)
        start = pool[np.argsort(-score(pool), kind="stable")[: options.pool // 4]]
        bred = evolved(
            self.space, self.rng, start, score, options.generations, distinctive=options.distinctive
        )
        return untried(self.space, trials, unique(self.space, np.concatenate([pool, bred])))

    def _described(self, configs: Configs) -> Described:
        own = self._encode(configs)
        if self.known is None:
            return Described(own, np.zeros((len(configs), 0)))
        known = self.known(configs)
        scaled = (known - self._centre) / self._spread
        return Described(np.concatenate([own, scaled], axis=1), known)

    def _clipped(self, times: Numbers) -> Numbers:
        if self.known is not None and len(times) < self.options.warm_up:
            return times
        return np.minimum(times, np.quantile(times, self.options.clip))


def trusted(known: Numbers, times: Numbers) -> Numbers:
    """
    How much of each source [sources] holds here: least squares on its log slowdowns
    [count, sources], none below 0, drawn to equal shares while trials are few.
    """
    count = known.shape[1]
    if not count:
        return np.zeros(0)
    inputs, outputs = known - known.mean(axis=0), times - times.mean()
    drawn = np.sqrt(TRUST) * np.eye(count)
    return nnls(
        np.concatenate([inputs, drawn]), np.concatenate([outputs, drawn.sum(axis=1) / count])
    )[0]


def log_improvement(prediction: Prediction, best: float | Numbers) -> Numbers:
    """
    ln E[max(0, best - t)] for normal t: expected improvement, finite however unlikely.

    Far from the best, ln(φ(u) + u·Φ(u)) is replaced by its leading term ln φ(u) - 2 ln|u|.
    """
    u = (best - prediction.mean) / prediction.deviation
    near = np.maximum(u, -FAR)
    inside = np.log(np.maximum(norm.pdf(near) + near * np.exp(log_ndtr(near)), 1e-300))
    tail = norm.logpdf(u) - 2 * np.log(np.maximum(np.abs(u), 1.0))
    return np.log(prediction.deviation) + np.where(u < -FAR, tail, inside)


def _nearest(features: Features, others: Features) -> Numbers:
    """Distance [count] to the nearest of `others`."""
    return np.sqrt(((features[:, None] - others[None]) ** 2).sum(axis=2)).min(axis=1)

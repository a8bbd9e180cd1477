"""
When to stop tuning early: once none was faster for long, or once nothing better is likely.

The second states its confidence. A Gaussian process learns the trials, and draws from it say how
often a config that was not tried is faster than the best by more than `gain`. Such a process
believes too much in its own smoothness, so that its answer is brought to what came true on
made-up kernels, by it and by how much of the space is left (`CALIBRATION`). How often the claim
holds elsewhere is printed by `python -m benchmarks.tuning --stop` (docs/tuning.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, logit, ndtr

from ..dialects.knobs import Configs, Space
from .cost_model.gaussian_process import GaussianProcess
from .draw import draw, legal_share, neighbours, unique
from .features import Encoder
from .search.base import untried
from .trials import Trials

SAMPLE, POOL, TOP, DRAWS = 1024, 2048, 192, 512
ELITE = 8
LEAST = 24
"""Trials before the model is asked."""
LEAST_BELIEF = 1e-3
CALIBRATION = (0.03, 0.46, 0.46)
"""Of 1, the logit of the belief, and ln(configs left / trials)."""


@dataclass(frozen=True)
class Stale:
    """Stops when the last `patience` trials brought nothing faster."""

    patience: int

    def __call__(self, trials: Trials) -> str | None:
        since = without_gain(trials)
        return f"none of the last {since} trials was faster" if since >= self.patience else None


@dataclass
class Confident:
    """
    Stops once a config faster than the best by more than `gain` (0.05: 5 % less time) is left
    with a chance of at most 1 - `confidence`. Asked anew after every `every` trials.
    """

    space: Space
    rng: np.random.Generator
    gain: float = 0.05
    confidence: float = 0.9
    every: int = 8
    model: GaussianProcess = field(default_factory=lambda: GaussianProcess(rough=True))
    asked: int = 0
    """Trials when last asked, and then: what the model believed, and the chance it was held for."""
    belief: float = 1.0
    chance: float = 1.0

    def __post_init__(self) -> None:
        self._encode = Encoder.of(self.space, draw(self.space, self.rng, SAMPLE))
        self._legal = legal_share(self.space) * self.space.points

    def __call__(self, trials: Trials) -> str | None:
        if trials.best is not None and len(trials) >= max(LEAST, self.asked + self.every):
            self.asked = len(trials)
            self.belief = self.believed(trials)
            self.chance = calibrated(self.belief, len(trials), self._legal - len(trials))
        if self.chance > 1 - self.confidence:
            return None
        return (
            f"a config more than {self.gain:.0%} faster is left with a chance of {self.chance:.0%}"
        )

    def believed(self, trials: Trials) -> float:
        """
        The chance that an untried config beats the best by more than `gain`, to the model.

        The likeliest configs are drawn together, the others are held to depend on none.
        """
        pool = self._pool(trials)
        if not len(pool):
            return 0.0
        times = trials.log_times
        target = times.min() + np.log1p(-self.gain)
        self.model.update(self._encode(trials.configs), np.minimum(times, np.median(times)))
        features = self._encode(pool)
        expected = self.model.predict(features)
        likely = ndtr((target - expected.mean) / expected.deviation)
        order = np.argsort(-likely, kind="stable")
        drawn = self.model.sampled(features[order[:TOP]], self.rng, DRAWS)
        none = float((drawn.min(axis=1) >= target).mean())
        return 1 - none * float(np.exp(np.log1p(-likely[order[TOP:]]).sum()))

    def _pool(self, trials: Trials) -> Configs:
        """Untried configs: at random, and one knob from the fastest trials."""
        order = np.argsort(trials.log_times, kind="stable")[:ELITE]
        near = [neighbours(self.space, config) for config in trials.configs[order]]
        pool = np.concatenate([*near, draw(self.space, self.rng, POOL)])
        return untried(self.space, trials, unique(self.space, pool))


def calibrated(belief: float, count: int, left: float) -> float:
    """
    The chance that better is left, where a model believes `belief` after `count` trials and about
    `left` legal configs were not tried: logistic regression on made-up kernels (Platt 1999).
    """
    if left < 1:
        return 0.0
    offset, trust, size = CALIBRATION
    limited = float(logit(np.clip(belief, LEAST_BELIEF, 1 - LEAST_BELIEF)))
    return float(expit(offset + trust * limited + size * np.log(left / count)))


def without_gain(trials: Trials) -> int:
    """How many trials came after the fastest."""
    best = trials.best
    return 0 if best is None else len(trials) - 1 - trials.trials.index(best)

"""
How good a search is: measurements to a share of the optimum, and the methodology score.

The score is that of Willemsen et al. (FGCS 2024, doi 10.1016/j.future.2024.05.021) with its
package's defaults: improvement over the expected best of as many random draws, averaged over the
time between easy and hard, 0 for random search and 1 for the optimum at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .recorded import Recording

START, END, SAMPLES = 0.01, 0.95, 32


def measurements_to(share: float, best_so_far: NDArray[np.float64], optimum: float) -> float:
    """Trials until the best is within `share` of the optimum (its time / ours); inf if never."""
    reached = optimum / best_so_far >= share
    return float(np.argmax(reached) + 1) if reached.any() else float("inf")


@dataclass(frozen=True)
class Baseline:
    """Random search on a recording, in closed form: no simulation."""

    seconds: NDArray[np.float64]
    """Of all configs that work, slowest first."""

    @staticmethod
    def of(recording: Recording) -> Baseline:
        good = recording.seconds[~np.isnan(recording.seconds)]
        return Baseline(-np.sort(-good))

    def draws_to(self, share: float) -> int:
        """Random draws until optimum + (median - optimum)·(1 - share) is expected."""
        optimum, median = self.seconds[-1], float(np.median(self.seconds))
        count = len(self.seconds)
        first = int(np.argmax(self.seconds <= optimum + (median - optimum) * (1 - share)))
        return int(np.ceil(first / (count + 1 - first)))

    def best_of(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """The expected best seconds of so many draws."""
        count = len(self.seconds)
        rank = np.round(draws * (count + 1) / (draws + 1)).astype(int)
        return self.seconds[np.clip(rank, 1, count) - 1]


def methodology_score(curves: list[NDArray[np.float64]], recording: Recording) -> float:
    """
    Of curves of best-so-far seconds by measurement, averaged over them first.

    Time is counted in measurements, each at the median recorded cost of a config.
    """
    baseline = Baseline.of(recording)
    span = np.linspace(baseline.draws_to(START), baseline.draws_to(END), SAMPLES)
    random = baseline.best_of(span)
    scores = []
    for curve in curves:
        places = np.clip(np.floor(span).astype(int), 1, len(curve)) - 1
        reached = np.where(np.isfinite(curve[places]), curve[places], baseline.seconds[0])
        scores.append((random - reached) / np.maximum(random - recording.optimum, 1e-30))
    return float(np.mean(scores))

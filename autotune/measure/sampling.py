"""Times of a kernel: enough runs for a median, and whether the device was ours meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from .backend import Kernel, Run

NOISY = 0.1


class Sampling(msgspec.Struct, frozen=True):
    """`least` to `most` runs, as many as take `seconds`; up to `attempts` times while disturbed."""

    least: int = 5
    most: int = 100
    seconds: float = 0.1
    attempts: int = 3


@dataclass(frozen=True, slots=True)
class Samples:
    runs: tuple[Run, ...]

    @property
    def seconds(self) -> list[float]:
        """Of undisturbed runs, if there are any."""
        quiet = [run.seconds for run in self.runs if not run.disturbed]
        return quiet or [run.seconds for run in self.runs]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        return spread(self.seconds)

    @property
    def contended(self) -> bool:
        """
        Most runs were disturbed, or times differ as those of an idle device do not.

        >>> Samples((Run(1.0), Run(1.0, disturbed=True), Run(1.0, disturbed=True))).contended
        True
        """
        disturbed = sum(run.disturbed for run in self.runs)
        return 2 * disturbed > len(self.runs) or self.spread > NOISY


def spread(seconds: Sequence[float]) -> float:
    """
    The interquartile range over the median.

    >>> spread([1.0, 1.0, 1.0, 1.0, 9.0])
    0.0
    """
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return float((high - low) / median) if median else 0.0


def sampled(run: Callable[[], Run], sampling: Sampling) -> Samples:
    """The quietest of the attempts, after a run that fills the caches."""
    run()
    found: list[Samples] = []
    for _ in range(sampling.attempts):
        found.append(_attempt(run, sampling))
        if not found[-1].contended:
            return found[-1]
    return min(found, key=lambda samples: samples.spread)


def _attempt(run: Callable[[], Run], sampling: Sampling) -> Samples:
    runs: list[Run] = []
    end = time.perf_counter() + sampling.seconds
    while len(runs) < sampling.least or (len(runs) < sampling.most and time.perf_counter() < end):
        runs.append(run())
    return Samples(tuple(runs))


def one_round(kernels: Sequence[Kernel], number: int) -> list[float]:
    """
    Seconds of each, in turns. Rounds begin with another one each, so that none always follows the
    same one.
    """
    seconds = [0.0] * len(kernels)
    for turn in range(len(kernels)):
        place = (number + turn) % len(kernels)
        kernels[place].run()
        seconds[place] = min(kernels[place].run().seconds for _ in range(2))
    return seconds

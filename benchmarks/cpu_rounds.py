"""
Interleaved timing of one cell: a shape, a number of rows of x and a number of threads.

In every round each contestant in turn runs a few times after a probe of the machine, which also
empties the caches. A sample whose probe fell is dropped; contestants are compared by the median of
their ratios round by round, never by times taken minutes apart.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.cpu_probe import Limits
from benchmarks.peers.peer import TOLERANCES, Linear, Step, Variant, relative_error

FALLEN = 0.7  # of the upper quartile of a cell's probes
ENOUGH = 3  # samples that a median needs
BURST_SECONDS = 0.25
SETTLE_SECONDS = 0.003


@dataclass(frozen=True, slots=True)
class Contestant:
    """A row that takes part; `expected` is the right result for all rows of x."""

    peer: str
    variant: Variant
    linear: Linear
    expected: np.ndarray


@dataclass(frozen=True, slots=True)
class Cell:
    n: int
    k: int
    m: int
    threads: int

    @property
    def operations(self) -> int:
        return 2 * self.n * self.k * self.m


@dataclass(frozen=True, slots=True)
class Sample:
    """
    One burst: median seconds of a call, and the machine just before.

    `disturbed` if in each of its calls the system took the processor away or had to fetch memory
    from the disk; otherwise only the calls without that count.
    """

    round: int
    seconds: float
    limits: Limits
    disturbed: bool = False


@dataclass(slots=True)
class Timed:
    """A contestant in a cell; `reason` says why it has no samples."""

    contestant: Contestant
    error: float
    reason: str = ""
    samples: list[Sample] = field(default_factory=list)


def measure(
    cell: Cell,
    contestants: Sequence[Contestant],
    x: np.ndarray,
    probe: Callable[[], Limits],
    rounds: int,
) -> list[Timed]:
    """All contestants, checked, then timed in turns; twice the rounds if many samples are lost."""
    entries = [_entered(contestant, cell, x) for contestant in contestants]
    running = [(timed, step, calls) for timed, step, calls in entries if not timed.reason]
    for number in range(2 * rounds):
        if number >= rounds and _settled([timed for timed, _, _ in running]):
            break
        for timed, step, calls in running:
            timed.samples.append(_burst(number, timed.contestant.linear, step, calls, probe))
    return [timed for timed, _, _ in entries]


def kept(entries: Sequence[Timed]) -> dict[int, list[Sample]]:
    """
    The samples of each entry (by its place) whose probe did not fall.

    Disturbed ones are left out too, but for an entry that has too few others: its own threads may
    be what takes the processor away.
    """
    samples = [sample.limits for timed in entries for sample in timed.samples]
    if not samples:
        return {index: [] for index in range(len(entries))}
    reading = FALLEN * float(np.quantile([limits.bandwidth for limits in samples], 0.75))
    computing = FALLEN * float(np.quantile([limits.float_rate for limits in samples], 0.75))

    def usable(timed: Timed) -> list[Sample]:
        steady = [
            sample
            for sample in timed.samples
            if sample.limits.bandwidth >= reading and sample.limits.float_rate >= computing
        ]
        quiet = [sample for sample in steady if not sample.disturbed]
        return quiet if len(quiet) >= ENOUGH else steady

    return {index: usable(timed) for index, timed in enumerate(entries)}


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float | None:
    """
    Median over the common rounds of their seconds by ours: above 1, ours is faster.

    >>> limits = Limits(1.0, 1.0, 1.0, 1.0)
    >>> ours = [Sample(0, 1.0, limits), Sample(1, 2.0, limits), Sample(2, 1.0, limits)]
    >>> theirs = [Sample(0, 3.0, limits), Sample(1, 4.0, limits), Sample(3, 9.0, limits)]
    >>> ratio(ours, theirs)
    2.5
    """
    others = {sample.round: sample.seconds for sample in theirs}
    common = [others[one.round] / one.seconds for one in ours if one.round in others]
    return float(np.median(common)) if common else None


def _entered(contestant: Contestant, cell: Cell, x: np.ndarray) -> tuple[Timed, Step, int]:
    """Every copy runs twice, to be checked and to be warm; the calls that a burst has time for."""
    linear = contestant.linear
    rows = x[: cell.m]
    try:
        step = linear.ready(cell.threads, rows)
        errors = [
            relative_error(linear.as_array(step(copy)), contestant.expected[: cell.m])
            for copy in range(linear.copies)
        ]
        seconds = _seconds(step, 0)
        linear.rest()
    except Exception as error:  # noqa: BLE001 - whatever a peer raises, the table goes on without it
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Timed(contestant, float("nan"), reason), lambda copy: None, 0
    error = max(errors)
    wrong = error > TOLERANCES[contestant.variant.compute]
    most = max(1, min(linear.copies - 1 or 3, int(BURST_SECONDS / seconds)))
    return Timed(contestant, error, "wrong result" if wrong else ""), step, most


def _burst(
    number: int, linear: Linear, step: Step, calls: int, probe: Callable[[], Limits]
) -> Sample:
    limits = probe()
    step(0)  # wakes the threads
    seconds, undisturbed = [], []
    for copy in range(1, calls + 1):
        before = _disturbances()
        seconds.append(_seconds(step, copy))
        if _disturbances() == before:
            undisturbed.append(seconds[-1])
    linear.rest()
    time.sleep(SETTLE_SECONDS)
    return Sample(number, float(np.median(undisturbed or seconds)), limits, not undisturbed)


def _disturbances() -> int:
    """How often this process lost a processor that it could use, or had to read from the disk."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_nivcsw + usage.ru_majflt


def _seconds(step: Step, copy: int) -> float:
    start = time.perf_counter()
    step(copy)
    return time.perf_counter() - start


def _settled(entries: Sequence[Timed]) -> bool:
    return all(len(samples) >= ENOUGH for samples in kept(entries).values())


def load() -> list[float]:
    return [round(value, 2) for value in os.getloadavg()]

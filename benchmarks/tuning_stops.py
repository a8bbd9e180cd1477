"""How often the early stop is right: its stated confidence against what came true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.tuning_runs import BATCH, BUDGET, State, Subject
from benchmarks.tuning_tables import Table
from qcc.autotune.search import SEARCHES
from qcc.autotune.stop import Confident, without_gain
from qcc.autotune.trials import Trials

GAIN = 0.05
CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Claims:
    """One run: what the rule believed after so many trials, and whether better was left."""

    space: str
    trials: tuple[int, ...]
    believed: tuple[float, ...]
    chance: tuple[float, ...]
    since: tuple[int, ...]
    better: tuple[bool, ...]


def claims(
    subjects: Sequence[Subject],
    state: State,
    seeds: Sequence[int],
    console: Console,
    *,
    kept: bool,
) -> Iterator[Claims]:
    """With `kept`, of those runs that the state has."""
    jobs = [
        (subject, seed)
        for subject in subjects
        for seed in seeds
        if not kept or state.has("stop", subject.name, seed)
    ]
    for subject, seed in track(jobs, "stopping", console=console, transient=True):
        run = state.kept(f"stop/{subject.name}/{seed}", lambda: _run(subject, seed))  # noqa: B023
        yield Claims(subject.name, *(tuple(run[name]) for name in _NAMES))


_NAMES = ("trials", "believed", "chance", "since", "better")


def _run(subject: Subject, seed: int) -> dict[str, Any]:
    """The default search to the end of the budget, with the rule asked on the way."""
    recording, space = subject.recording, subject.recording.space
    search = SEARCHES["distinctive"].make(space, np.random.default_rng(seed))
    rule = Confident(space, np.random.default_rng(seed), GAIN)
    trials, rows, last = Trials(), [], 1.0
    while len(trials) < BUDGET:
        configs = search.propose(trials, BATCH)
        if not len(configs):
            break
        trials.add(recording.measure(configs))
        rule(trials)
        if rule.asked == len(trials) and trials.best is not None:
            left = recording.optimum < (trials.best.seconds or 0.0) * (1 - GAIN)
            rows.append((len(trials), rule.belief, rule.chance, without_gain(trials), bool(left)))
            last = rule.chance
        if last < 1 - CONFIDENCES[-1]:
            break
    return {
        name: list(column) for name, column in zip(_NAMES, zip(*rows, strict=True), strict=True)
    }


def stop_table(runs: Iterator[Claims]) -> Table:
    found = list(runs)
    rows = []
    for confidence in CONFIDENCES:
        stops = [stop for run in found if (stop := _stop(run, confidence)) is not None]
        right = sum(not better for _, better in stops)
        rows.append(
            (
                f"{confidence:.0%}",
                f"{right / len(stops):.0%}" if stops else "-",
                f"{len(stops)} of {len(found)}",
                f"{np.median([at for at, _ in stops]):.0f}" if stops else "-",
            )
        )
    title = f"Early stop: the claim that no config more than {GAIN:.0%} faster is left"
    return Table(title, ("confidence", "came true", "runs stopped", "median trials"), tuple(rows))


def _stop(run: Claims, confidence: float) -> tuple[int, bool] | None:
    """Trials when the rule first stops at that confidence, and whether better was left then."""
    for at, chance, better in zip(run.trials, run.chance, run.better, strict=True):
        if chance <= 1 - confidence:
            return at, better
    return None

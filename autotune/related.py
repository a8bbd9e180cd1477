"""Trials of other tasks that teach something about this one: other shapes, formats, devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..dialects.knobs import Space
from .database.store import Store, distance
from .measurement import Measurement, trials_of
from .task import Task
from .trials import Trial, Trials

LEAST, MOST = 16, 4
"""Trials that a task must have to be learnt from, and how many tasks are."""


@dataclass(frozen=True)
class Related:
    """A task and those of its trials that are legal configs of another one's space."""

    task: Task
    trials: Trials


def related(task: Task, space: Space, stores: Iterable[Store]) -> tuple[Related, ...]:
    """The nearest tasks of the same kernel whose trials `space` has, at most MOST of them."""
    near = {
        other: (away, store)
        for store in reversed(list(stores))
        for other in store.tasks()
        if other != task and (away := distance(task, other)) is not None
    }
    found = _taught(space, sorted(near.items(), key=lambda each: each[1][0]))
    return tuple(each for each, _ in zip(found, range(MOST), strict=False))


def _taught(
    space: Space, near: list[tuple[Task, tuple[tuple[bool, float], Store]]]
) -> Iterator[Related]:
    for other, (_, store) in near:
        trials = Trials(_usable(space, store.measurements(other)))
        worked = sum(trial.seconds is not None for trial in trials.trials)
        if worked >= LEAST:
            yield Related(other, trials)


def _usable(space: Space, measurements: list[Measurement]) -> list[Trial]:
    built = [each for each in measurements if each.failure != "constraints"]
    trials = trials_of(space, built)
    if not trials:
        return []
    legal = space.legal(Trials(trials).configs)
    return [trial for trial, good in zip(trials, legal, strict=True) if good]

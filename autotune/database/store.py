"""What can be asked of measurements wherever they are: the best of a task, and tasks near it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log2
from statistics import median
from typing import Protocol

import msgspec

from ...dialects.knobs import Value
from ..choice import chosen, config_key, sound
from ..measurement import Measurement
from ..task import Task
from .journal import Entry

OTHER_VALUE, OTHER_FORMAT, OTHER_TOOLCHAIN = 4.0, 2.0, 0.25
"""Distances between tasks, where a factor of two in one size is 1."""


class Store(Protocol):
    """Measurements by task."""

    def tasks(self) -> list[Task]:
        """All of them, in the order of their first measurement."""
        ...

    def measurements(self, task: Task) -> list[Measurement]:
        """Those of one task, in the order in which they came."""
        ...


class Collection:
    """A store in memory, without repetitions."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._found: dict[Task, dict[str, Measurement]] = {}
        for entry in entries:
            self._found.setdefault(entry.task, {}).setdefault(entry.hash, entry.measurement)

    def tasks(self) -> list[Task]:
        return list(self._found)

    def measurements(self, task: Task) -> list[Measurement]:
        return list(self._found.get(task, {}).values())


def entries_of(store: Store) -> Iterator[Entry]:
    """Everything in a store, task by task."""
    for task in store.tasks():
        for measurement in store.measurements(task):
            yield Entry(task, measurement)


def best_of(measurements: Iterable[Measurement]) -> Measurement | None:
    """
    The fastest config whose results were checked: its latest measurement, with the median seconds
    of all of them.

    Where a comparison with the default chose a config, that is the best (choice.py). One lucky time
    of several therefore does not win, nor does a config that gave wrong results even once. Times
    taken while the device was contended count only where a config has no others, and those of a
    timing model only where nothing was measured.
    """
    some = sound(measurements)
    decided = chosen(some)
    if decided is not None:
        return decided
    of_config: dict[bytes, list[Measurement]] = {}
    for each in some:
        of_config.setdefault(config_key(each), []).append(each)
    pooled = map(_pooled, of_config.values())
    return min(pooled, key=lambda each: (each.modelled, each.seconds or 0.0), default=None)


def _pooled(measurements: list[Measurement]) -> Measurement:
    """The median of one config's checked measurements, of the most credible kind that it has."""
    clean = min((each.modelled, each.contended) for each in measurements)
    some = [each for each in measurements if (each.modelled, each.contended) == clean]
    seconds = median(each.seconds for each in some if each.seconds is not None)
    return msgspec.structs.replace(some[-1], seconds=seconds)


@dataclass(frozen=True)
class Found:
    """The best of `task`, and the name of the store that has it."""

    task: Task
    measurement: Measurement
    source: str


class Lookup:
    """Stores by name, the earlier before the later: the user's own, then what is shipped."""

    def __init__(self, stores: Iterable[tuple[str, Store]]) -> None:
        self._stores = list(stores)

    def best(self, task: Task) -> Found | None:
        """Of `task`; where no store has one, of the same task built by another toolchain."""
        found = (self._best_in(source, store, task) for source, store in self._stores)
        exact = next(filter(None, found), None)
        return exact or next(filter(None, (self._of_other_toolchain(task))), None)

    def neighbours(self, task: Task, count: int = 8) -> list[Found]:
        """
        The best of up to `count` other tasks of the same kernel, the nearest first; those of other
        devices follow all of this one.
        """
        near = [
            (away, number, source, store, other)
            for number, (source, store) in enumerate(self._stores)
            for other in store.tasks()
            if other != task and (away := distance(task, other)) is not None
        ]
        near.sort(key=lambda each: each[:2])
        found, seen = [], set()
        for _, _, source, store, other in near:
            if len(found) == count:
                break
            best = None if other in seen else self._best_in(source, store, other)
            if best is not None:
                seen.add(other)
                found.append(best)
        return found

    def _of_other_toolchain(self, task: Task) -> Iterator[Found | None]:
        for source, store in self._stores:
            for other in reversed(store.tasks()):
                if msgspec.structs.replace(other, toolchain=task.toolchain) == task:
                    yield self._best_in(source, store, other)

    @staticmethod
    def _best_in(source: str, store: Store, task: Task) -> Found | None:
        best = best_of(store.measurements(task))
        return None if best is None else Found(task, best, source)


def distance(task: Task, other: Task) -> tuple[bool, float] | None:
    """
    How unlike two tasks are: whether their devices differ, then how far the rest is apart. None for
    different kernels.

    >>> distance(Task("gemm", {"m": 64, "n": 1}), Task("gemm", {"m": 256, "n": 1}, "int4"))
    (False, 4.0)
    """
    if task.kernel != other.kernel:
        return None
    names = {*task.problem, *other.problem}
    away = sum(_between(task.problem.get(name), other.problem.get(name)) for name in names)
    away += OTHER_FORMAT * (task.format != other.format)
    away += OTHER_TOOLCHAIN * (task.toolchain != other.toolchain)
    return task.device != other.device, away


def _between(left: Value | None, right: Value | None) -> float:
    if left == right:
        return 0.0
    if isinstance(left, int | float) and isinstance(right, int | float) and min(left, right) > 0:
        return abs(log2(left / right))
    return OTHER_VALUE

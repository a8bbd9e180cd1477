"""
Schedules of kernels for GPUs out of a tuning database; else those of their shapes.

A kernel takes what was tuned for its shape and formats on its machine: what a GPU was asked before
what was judged without one. Attention takes what was tuned for the most keys: how many there will
be is no part of a program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...autotune.database import Store, best_of
from ...autotune.task import Task
from ...dialects.knobs import Value
from ...dialects.tile.hardware import machine
from ...passes.choosers import Choosers
from .choices import NOT_TUNED, Choice, reasons_against
from .cuda_families import FAMILIES, Family, values
from .cuda_tasks import device_text

CONTEXT = "keys"


class StoredCudaSchedules:
    """Stores by name, the earlier before the later; `choices` grows as kernels are written."""

    def __init__(self, stores: Sequence[tuple[str, Store]]) -> None:
        self._stores = stores
        self._tasks = [
            (name, store, [task for task in store.tasks() if task.kernel in FAMILIES])
            for name, store in stores
        ]
        self.choices: list[Choice] = []

    @property
    def choosers(self) -> Choosers:
        return Choosers(**{each.name: self._chooser(each) for each in FAMILIES.values()})

    def _chooser(self, family: Family) -> Callable[[Any, str], Any]:
        return lambda problem, name: self.choose(family, problem, name)

    def choose(self, family: Family, problem: Any, name: str) -> Any:
        task, reasons = family.task(problem, device_text(name), 0), [NOT_TUNED]
        sizes = " ".join(f"{size}={value}" for size, value in task.problem.items())
        layer = " ".join(filter(None, (family.name, task.format, sizes)))
        for source, store, other in self._found(task, name):
            best = best_of(store.measurements(other))
            if best is not None:
                reasons = reasons_against(
                    best.values,
                    family.schedule_of,
                    lambda made: family.illegal(problem, made, machine(name)),
                )
                if not reasons:
                    self.choices.append(Choice(layer, best.values, source))
                    return family.schedule_of(best.values)
        made = family.default(problem, name)
        self.choices.append(Choice(layer, values(made), reason="; ".join(reasons)))
        return made

    def _found(self, task: Task, name: str) -> Iterator[tuple[str, Store, Task]]:
        """Tasks of this kernel, store by store: on GPUs of this machine, then without one."""
        without = device_text(name)
        wanted = _shape(task)
        for source, store, tasks in self._tasks:
            same = [
                other
                for other in tasks
                if (other.kernel, other.format) == (task.kernel, task.format)
                and other.device.startswith(f"{name}, ")
                and _shape(other) == wanted
            ]
            same.sort(key=lambda other: (other.device == without, -_context(other), other.key))
            yield from ((source, store, other) for other in same)


def _shape(task: Task) -> dict[str, Value]:
    return {name: value for name, value in task.problem.items() if name != CONTEXT}


def _context(task: Task) -> int:
    return int(task.problem.get(CONTEXT, 0))

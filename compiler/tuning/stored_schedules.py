"""
Schedules of CPU layers out of a tuning database, and which layer of a program takes which.

A layer takes what was tuned for its shape and formats on this kind of processor: for its rows of x,
or for the most that were tuned where it leaves them open; with the most threads. What comparisons
with the default chose is taken as it is; of a tune that was cut short, what was much faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...autotune.choice import chosen
from ...autotune.database import Store, best_of, open_store
from ...autotune.measurement import Measurement
from ...autotune.task import Task
from ...codegen.cpu.convert_qcc_to_kernels import scheduled_layers
from ...codegen.cpu.features import host_features
from ...codegen.cpu.schedules import ScheduledLayer
from ...dialects.bindings import ir
from ...dialects.cpu.default_schedule import default_schedule
from ...dialects.cpu.schedule import LinearSchedule, illegal
from ...dialects.cpu.space import KERNEL, schedule_of, values_of
from ...dialects.errors import UnsupportedError
from ...passes.assign_schedules import assign_schedules
from ..doctor import cpu_model
from ..targets import Target
from .cpu_jobs import formats

UNCOMPARED = 1.1
"""How much faster than the default a config must be that was not compared with it in turns."""
DEFAULT_SOURCE = "default"


@dataclass(frozen=True, slots=True)
class Choice:
    """The schedule of a layer; `source` is the database's name, or "default" for a `reason`."""

    layer: str
    schedule: LinearSchedule
    source: str = DEFAULT_SOURCE
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "schedule": values_of(self.schedule),
            "source": self.source,
            "reason": self.reason,
        }


class StoredSchedules:
    """Raises as `open_store` does."""

    def __init__(self, path: Path) -> None:
        self._store: Store = open_store(path)
        self._name = path.name
        self._tasks = [task for task in self._store.tasks() if task.kernel == KERNEL]

    def apply(self, module: ir.Module) -> list[Choice]:
        """Give the layers of a module their schedules, as an attribute of each."""
        choices = [self.choice(layer) for layer in scheduled_layers(module)]
        found = {each.layer: each.schedule for each in choices if each.source == self._name}
        assign_schedules(found)(module.operation, None)
        return choices

    def choice(self, layer: ScheduledLayer) -> Choice:
        features = frozenset(host_features())
        default = default_schedule(layer.problem, features)
        task = self._task_of(layer)
        if task is None:
            return Choice(layer.name, default, reason="not tuned")
        best = self._best(task, default)
        if best is None:
            return Choice(layer.name, default, reason="nothing was clearly faster")
        schedule = schedule_of(best.values)
        reasons = list(illegal(layer.problem, schedule, features))
        if reasons:
            return Choice(layer.name, default, reason="; ".join(reasons))
        return Choice(layer.name, schedule, self._name)

    def _task_of(self, layer: ScheduledLayer) -> Task | None:
        wanted = {"n": layer.problem.n, "k": layer.problem.k}
        if layer.rows is not None:
            wanted["m"] = layer.rows
        spelled = formats(layer.problem, layer.activations)
        device = cpu_model()
        found = [
            task
            for task in self._tasks
            if (task.format, task.device) == (spelled, device) and _has(task.problem, wanted)
        ]
        return max(found, key=_preference, default=None)

    def _best(self, task: Task, default: LinearSchedule) -> Measurement | None:
        """None where the default is as good."""
        measurements = self._store.measurements(task)
        own = values_of(default)
        decided = chosen(measurements)
        if decided is not None:
            return None if decided.values == own else decided
        best = best_of(measurements)
        ours = best_of(each for each in measurements if each.values == own)
        if best is None or best.seconds is None or ours is None or ours.seconds is None:
            return None
        return best if ours.seconds > UNCOMPARED * best.seconds else None


def stored_schedules(path: Path | None, target: Target) -> StoredSchedules | None:
    """Those of the file that a compilation names; UnsupportedError for targets without any."""
    if path is None:
        return None
    if target.family != "cpu":
        raise UnsupportedError(
            "schedules-target",
            f"kernels of target '{target.name}' take no schedules from a database",
            next_step="leave out --schedules",
        )
    return StoredSchedules(path)


def schedules_report(path: Path | None, choices: Sequence[Choice]) -> dict[str, Any] | None:
    """The fields of report_data.Schedules; None where no database was asked."""
    if path is None:
        return None
    return {"database": path.name, "layers": [each.as_json() for each in choices]}


def _has(problem: Mapping[str, Any], wanted: Mapping[str, int]) -> bool:
    return all(problem.get(name) == value for name, value in wanted.items())


def _preference(task: Task) -> tuple[int, int, str]:
    """Many rows, many threads, and among toolchains always the same one."""
    return int(task.problem["m"]), int(task.problem["threads"]), task.toolchain

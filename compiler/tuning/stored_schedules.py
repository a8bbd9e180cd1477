"""
Schedules of CPU layers out of a tuning database, and which layer of a program takes which.

A layer takes what was tuned for its shape and formats on this kind of processor: for its rows of x,
or for the most that were tuned where it leaves them open; with the most threads. What comparisons
with the default chose is taken as it is; of a tune that was cut short, what was much faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...autotune.choice import CHOSEN
from ...autotune.database import Store, best_of, open_store
from ...autotune.database.document import decode_document
from ...autotune.database.shipped import NAME as SHIPPED
from ...autotune.database.shipped import shipped
from ...autotune.measurement import Measurement
from ...autotune.task import Task
from ...codegen.cpu.convert_qcc_to_kernels import scheduled_layers
from ...codegen.cpu.features import host_features
from ...dialects.bindings import ir
from ...dialects.cpu.default_schedule import default_schedule
from ...dialects.cpu.schedule import ScheduledLayer, illegal
from ...dialects.cpu.space import KERNEL, schedule_of, values_of
from ...dialects.knobs import Value
from ...passes.assign_schedules import assign_schedules
from ..doctor import cpu_model
from ..file_kind import JSON, kind_of
from .choices import NOT_TUNED, Choice, reasons_against
from .cpu_jobs import formats

UNCOMPARED = 1.1
"""How much faster than the default a config must be that was not compared with it in turns."""


class StoredSchedules:
    """Stores by name, the earlier before the later."""

    def __init__(self, stores: Sequence[tuple[str, Store]]) -> None:
        device = cpu_model()
        self._found = [
            (name, store, task)
            for name, store in stores
            for task in store.tasks()
            if task.kernel == KERNEL and task.device == device and _is_ours(task)
        ]

    def __bool__(self) -> bool:
        """Whether anything was tuned on this kind of processor."""
        return bool(self._found)

    def apply(self, module: ir.Module) -> list[Choice]:
        """Give the layers of a module their schedules, as an attribute of each."""
        choices = [self.choice(layer) for layer in scheduled_layers(module)]
        found = {each.layer: schedule_of(each.values) for each in choices if each.tuned}
        assign_schedules(found)(module.operation, None)
        return choices

    def choice(self, layer: ScheduledLayer) -> Choice:
        features = frozenset(host_features())
        default = values_of(default_schedule(layer.problem, features, layer.rows))
        source, store, task = self._task_of(layer)
        if store is None or task is None:
            return Choice(layer.name, default, reason=NOT_TUNED)
        best = _best(store.measurements(task), default)
        if best is None:
            return Choice(layer.name, default, reason="nothing was clearly faster")
        reasons = reasons_against(
            best.values, schedule_of, lambda schedule: illegal(layer.problem, schedule, features)
        )
        if reasons:
            return Choice(layer.name, default, reason="; ".join(reasons))
        return Choice(layer.name, best.values, source)

    def _task_of(self, layer: ScheduledLayer) -> tuple[str, Store | None, Task | None]:
        """Of the first store that has any."""
        wanted = {"n": layer.problem.n, "k": layer.problem.k}
        if layer.rows is not None:
            wanted["m"] = layer.rows
        spelled = formats(layer.problem, layer.activations)
        found = [
            each for each in self._found if each[2].format == spelled and _has(each[2], wanted)
        ]
        first = [each for each in found if each[0] == found[0][0]]
        return max(first, key=lambda each: _preference(each[2]), default=("", None, None))


def _best(measurements: list[Measurement], own: Mapping[str, Value]) -> Measurement | None:
    """None where the default, `own`, is as good."""
    best = best_of(measurements)
    if best is None or best.seconds is None or best.values == own:
        return None
    if best.strategy == CHOSEN:
        return best
    ours = best_of(each for each in measurements if each.values == own)
    much = ours is not None and (ours.seconds or 0.0) > UNCOMPARED * best.seconds
    return best if much else None


def schedule_stores(path: Path | None) -> list[tuple[str, Store]]:
    """Of the file that a compilation names, if any, and what comes with qcc."""
    named = [] if path is None else [(path.name, _opened(path))]
    return [*named, (SHIPPED, shipped())]


def _opened(path: Path) -> Store:
    """A database, or a document that `qcc db export` wrote."""
    if kind_of(path) == JSON:
        return decode_document(path.read_bytes(), str(path))
    return open_store(path)


def schedules_report(path: Path | None, choices: Sequence[Choice]) -> dict[str, Any] | None:
    """The fields of report_data.Schedules; None where no database was asked."""
    if path is None and not any(each.tuned for each in choices):
        return None
    name = SHIPPED if path is None else path.name
    return {"database": name, "layers": [each.as_json() for each in choices]}


def schedules_warnings(path: Path | None, choices: Sequence[Choice]) -> list[str]:
    """A database that was named in vain."""
    if path is None or any(each.reason != NOT_TUNED for each in choices):
        return []
    return [f"'{path.name}' has no layer of this model, in these formats, on this device"]


def _has(task: Task, wanted: Mapping[str, int]) -> bool:
    return all(task.problem.get(name) == value for name, value in wanted.items())


def _is_ours(task: Task) -> bool:
    """Whether it has the sizes that choosing needs: other tuners may have had others."""
    return all(isinstance(task.problem.get(name), int) for name in ("m", "threads"))


def _preference(task: Task) -> tuple[int, int, str]:
    """Many rows, many threads, and among toolchains always the same one."""
    return int(task.problem["m"]), int(task.problem["threads"]), task.toolchain

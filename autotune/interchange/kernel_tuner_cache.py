"""
Measurements as a cache file of Kernel Tuner, whose strategies can then search them in simulation.

recorded.py replays such files itself. With T1 JSON of the same space (t1.py) it makes the pair that
Kernel Tuner's `tune_kernel_T1(…, simulation_mode=True)` takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from ...dialects.errors import IntegrityError, QccError
from ...dialects.knobs import Knob, Space, Value
from ..database import Entry
from ..measurement import Measurement
from ..task import Task
from .t1 import kernel_name

MILLI = 1e-3
NEVER = 1e20
"""What old versions of Kernel Tuner wrote as the time of a config that failed."""
_FAILURES = {"compile": "CompilationFailedConfig", "constraints": "InvalidConfig"}
_COSTS = {
    "compile_time": "compilation",
    "benchmark_time": "benchmark",
    "verification_time": "validation",
    "framework_time": "framework",
    "strategy_time": "search_algorithm",
}


class _Cache(msgspec.Struct):
    kernel_name: str
    tune_params_keys: list[str]
    cache: dict[str, dict[str, Any]]
    device_name: str = ""


def encode_cache(task: Task, measurements: Sequence[Measurement]) -> bytes:
    """The latest measurement of each config of a task that has the knobs of the last one."""
    space = recorded_space(task, measurements)
    latest = {
        ",".join(str(each.values[name]) for name in space.names): each
        for each in measurements
        if set(each.values) == set(space.names)
    }
    document = {
        "device_name": task.device,
        "kernel_name": kernel_name(task),
        "problem_size": [1],
        "tune_params_keys": list(space.names),
        "tune_params": {knob.name: list(knob.values) for knob in space.knobs},
        "objective": "time",
        "cache": {key: _record(each, space) for key, each in latest.items()},
    }
    # Kernel Tuner takes a file for cut short that does not end in three brackets.
    return msgspec.json.encode(document)


def decode_cache(data: bytes, where: str, task: Task | None, checked: bool = False) -> list[Entry]:
    """
    What a cache file has recorded: of `task`, or of the kernel and device that it names. `checked`
    says that whoever wrote it compared all results with a reference.

    Raises IntegrityError for anything else.
    """
    try:
        read = msgspec.json.decode(data, type=_Cache)
        task = task or Task(read.kernel_name, {}, device=read.device_name)
        keys = read.tune_params_keys
        return [Entry(task, _measurement(each, keys, checked)) for each in read.cache.values()]
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, QccError) as error:
        raise IntegrityError(
            "cache-unreadable",
            "not a cache file of Kernel Tuner",
            where=where,
            why=error.what if isinstance(error, QccError) else f"{error}",
            next_step="let Kernel Tuner write it again",
        ) from error


def _measurement(record: dict[str, Any], knobs: list[str], checked: bool) -> Measurement:
    time = record["time"]
    worked = isinstance(time, int | float) and 0 < time < NEVER
    runs = record.get("times")
    return Measurement(
        values={name: record[name] for name in knobs},
        seconds=time * MILLI if worked else None,
        failure="" if worked else _failure(time),
        samples=len(runs) if worked and isinstance(runs, list) else 0,
        checked=checked,
        strategy="imported",
        cost={
            stage: max(0.0, record[key] * MILLI)
            for key, stage in _COSTS.items()
            if isinstance(record.get(key), int | float)
        },
    )


def _failure(time: object) -> str:
    return next((word for word, text in _FAILURES.items() if text == time), "runtime")


def recorded_space(task: Task, measurements: Sequence[Measurement]) -> Space:
    """The configs that were measured, with the values that knobs had in them."""
    names = list(measurements[-1].values) if measurements else []
    used = [each.values for each in measurements if set(each.values) == set(names)]
    knobs = tuple(Knob(name, _sorted({values[name] for values in used})) for name in names)
    rows = [[knob.values.index(values[knob.name]) for knob in knobs] for values in used]
    members = np.unique(np.array(rows, np.int64).reshape(len(rows), len(knobs)), axis=0)
    return Space(kernel_name(task), knobs, members=members)


def _sorted(values: set[Value]) -> tuple[Value, ...]:
    return tuple(sorted(values, key=lambda value: (isinstance(value, str), value)))


def _record(measurement: Measurement, space: Space) -> dict[str, Any]:
    values = {name: measurement.values[name] for name in space.names}
    costs = {key: measurement.cost.get(stage, 0.0) / MILLI for key, stage in _COSTS.items()}
    if measurement.seconds is None:
        failed = _FAILURES.get(measurement.failure, "RuntimeFailedConfig")
        return {**values, "time": failed, "times": [], **costs}
    time = measurement.seconds / MILLI
    return {**values, "time": time, "times": [time], **costs}

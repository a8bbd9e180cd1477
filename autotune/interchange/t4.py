"""
Results as T4 JSON, schema 1.0.0, as Kernel Tuner, KTT and the FAIR benchmark hub write it.

Times of a file are in the unit that its metadata names, in seconds where it names none. Beside the
fields of a result is `qcc`, the record itself, which others ignore: T4 lacks much of it, and times
change in their last bits on the way through milliseconds. Of results of other tuners it is not
known whether they were checked: Kernel Tuner writes `correctness` 1 for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import msgspec

from ...dialects.errors import IntegrityError, QccError
from ..database import Entry
from ..measurement import FAILURES, Measurement
from ..task import Task

VERSION = "1.0.0"
MILLISECONDS = 1e3
_SECONDS = {
    "": 1.0, "s": 1.0, "seconds": 1.0, "ms": 1e-3, "milliseconds": 1e-3, "miliseconds": 1e-3,
    "us": 1e-6, "microseconds": 1e-6, "ns": 1e-9, "nanoseconds": 1e-9,
}  # fmt: skip
"""Units of time; "miliseconds" is how the benchmark hub spells it."""
_STAGES = {"compilation_time": "compilation"}
"""The schema's name of a time, where the writers have another."""


class _Objective(msgspec.Struct):
    name: str
    value: Any = None
    unit: str = ""


class _Result(msgspec.Struct):
    configuration: dict[str, bool | int | float | str]
    invalidity: str
    times: dict[str, Any] = {}
    measurements: list[_Objective] = []
    objectives: list[str] = []
    timestamp: str = ""
    qcc: Measurement | None = None


class _OwnHead(msgspec.Struct, frozen=True):
    task: Task | None = None


class _Metadata(msgspec.Struct, frozen=True):
    timeunit: str = ""
    qcc: _OwnHead = _OwnHead()


class _T4(msgspec.Struct):
    results: list[_Result]
    metadata: _Metadata = _Metadata()


def encode_t4(task: Task, measurements: Sequence[Measurement]) -> bytes:
    """All measurements of a task, in their order."""
    document = {
        "schema_version": VERSION,
        "metadata": {"timeunit": "milliseconds", "qcc": {"task": task}},
        "results": [_result(each) for each in measurements],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode_t4(data: bytes, where: str, task: Task | None, checked: bool = False) -> list[Entry]:
    """
    The results of a T4 file, `where` in errors: of `task`, or of the one that the file names.
    `checked` says that whoever wrote it compared all results with a reference.

    Raises IntegrityError for anything else.
    """
    try:
        read = msgspec.json.decode(data, type=_T4)
        task = task or read.metadata.qcc.task
        if task is None:
            raise ValueError("it does not say what was tuned, and no task was given")
        unit = _unit(read.metadata.timeunit)
        return [Entry(task, _measurement(each, unit, checked)) for each in read.results]
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, QccError) as error:
        raise IntegrityError(
            "t4-unreadable",
            "not results in T4 JSON",
            where=where,
            why=error.what if isinstance(error, QccError) else str(error),
            next_step="compare it with the T4 schema, version 1.0.0",
        ) from error


def _result(measurement: Measurement) -> dict[str, Any]:
    seconds = measurement.seconds
    time = None if seconds is None else seconds * MILLISECONDS
    times = {name: cost * MILLISECONDS for name, cost in measurement.cost.items()}
    return {
        "timestamp": datetime.fromtimestamp(measurement.when, UTC).isoformat(sep=" "),
        "configuration": measurement.values,
        "times": {**times, "runtimes": [] if time is None else [time]},
        "invalidity": measurement.failure or "correct",
        "correctness": float(measurement.worked and measurement.checked),
        "measurements": [] if time is None else [{"name": "time", "value": time, "unit": "ms"}],
        "objectives": ["time"],
        "qcc": measurement,
    }


def _measurement(result: _Result, unit: float, checked: bool) -> Measurement:
    if result.qcc is not None:
        return result.qcc
    seconds = None
    if result.invalidity == "correct":
        seconds = _seconds(result, unit)
    elif result.invalidity not in FAILURES:
        raise ValueError(f"invalidity {result.invalidity!r} is none of the schema")
    runtimes = result.times.get("runtimes")
    return Measurement(
        values=dict(result.configuration),
        seconds=seconds,
        failure="" if seconds is not None else _failure(result),
        samples=len(runtimes) if isinstance(runtimes, list) else 0,
        checked=checked,
        cost=_cost(result, unit),
        strategy="imported",
        when=_when(result.timestamp),
    )


def _failure(result: _Result) -> str:
    """A result that is called correct and has no time failed when it ran."""
    return "runtime" if result.invalidity == "correct" else result.invalidity


def _seconds(result: _Result, unit: float) -> float | None:
    """The time that was measured, None where it is no number; ValueError where none was."""
    found = {each.name: each for each in result.measurements}
    names = ["time", *(name for name in result.objectives if _is_time(found.get(name)))]
    time = next((found[name] for name in names if name in found), None)
    if time is None:
        raise ValueError(f"no time was measured, but {', '.join(result.objectives) or 'nothing'}")
    if not isinstance(time.value, int | float) or not isfinite(time.value) or time.value <= 0:
        return None
    return time.value * (_unit(time.unit) if time.unit else unit)


def _is_time(objective: _Objective | None) -> bool:
    return objective is not None and bool(objective.unit) and objective.unit in _SECONDS


def _cost(result: _Result, unit: float) -> dict[str, float]:
    """Seconds by stage; a negative one is a clock that was set back."""
    return {
        _STAGES.get(name, name): max(0.0, value * unit)
        for name, value in result.times.items()
        if isinstance(value, int | float) and isfinite(value)
    }


def _unit(name: str) -> float:
    if name.lower() not in _SECONDS:
        raise ValueError(f"the unit of time {name!r} is unknown")
    return _SECONDS[name.lower()]


def _when(timestamp: str) -> float:
    """Unix time; 0 where the text is no date since 1970."""
    try:
        return max(0.0, datetime.fromisoformat(timestamp).timestamp())
    except (ValueError, OverflowError):
        return 0.0

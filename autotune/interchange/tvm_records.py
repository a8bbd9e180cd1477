"""
Tuning records of TVM's MetaSchedule: `database_tuning_record.json`, without TVM.

    [workload, [[instructions, decisions], [seconds, …], target, arguments]]

A record a line. A task is a workload of `database_workload.json`, by its hash, with its arguments
and target. A config is the decisions of its trace, a value each, and the instructions, as one more;
so a record can be written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import msgspec

from ...dialects.errors import IntegrityError, QccError, UsageError
from ...dialects.knobs import Value
from ..database import Entry
from ..measurement import Measurement
from ..task import Task

KERNEL = "tvm.metaschedule"
INSTRUCTIONS = "instructions"
FAILED = 1e9
"""Seconds from which on a record says that nothing was measured: TVM writes 1e10."""

_Decision = tuple[int, Any]
_Trace = tuple[list[list[Any]], list[_Decision]]
_Record = tuple[_Trace, list[float] | None, dict[str, Any] | None, list[Any] | None]
_Line = tuple[int, _Record]
_Workload = tuple[str, str]


def decode_records(records: bytes, workloads: bytes, where: str) -> list[Entry]:
    """
    The lines of both files; `where` names the records in errors.

    Raises IntegrityError for anything else. Results of TVM are not known to be checked.
    """
    hashes = workload_hashes(workloads, where)
    found = []
    for number, line in enumerate(records.splitlines(), 1):
        try:
            index, record = msgspec.json.decode(line, type=_Line)
            if not 0 <= index < len(hashes):
                raise ValueError(f"workload {index}, of which there are {len(hashes)}")
            found.append(Entry(_task(hashes[index], record), _measurement(record)))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, QccError) as error:
            raise _unreadable(where, f"line {number}: {error}") from error
    return found


def encode_records(entries: Iterable[Entry], workloads: bytes, where: str) -> bytes:
    """
    Records of tasks that came from MetaSchedule, by the numbers that `workloads` gives these.

    Raises UsageError for others.
    """
    numbers = {name: number for number, name in enumerate(workload_hashes(workloads, where))}
    lines = []
    for entry in entries:
        workload = str(entry.task.problem.get("workload", ""))
        if entry.task.kernel != KERNEL or workload not in numbers:
            raise UsageError(
                "tvm-workload",
                f"task {entry.task.key} is no workload of '{where}'",
                why=f"it is one of {entry.task.kernel}" if entry.task.kernel != KERNEL else "",
                next_step="name tasks that were imported from MetaSchedule, and their workloads",
            )
        lines.append(msgspec.json.encode((numbers[workload], _record(entry))))
    return b"".join(line + b"\n" for line in lines)


def workload_hashes(workloads: bytes, where: str) -> list[str]:
    """Of each line of `database_workload.json`; the modules themselves are not read."""
    try:
        lines = workloads.splitlines()
        return [msgspec.json.decode(line, type=_Workload)[0] for line in lines]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _unreadable(where, f"its workloads: {error}") from error


def _unreadable(where: str, why: str) -> IntegrityError:
    return IntegrityError(
        "tvm-records-unreadable",
        "not tuning records of TVM's MetaSchedule",
        where=where,
        why=why,
        next_step="give database_tuning_record.json, with database_workload.json beside it",
    )


def _task(workload: str, record: _Record) -> Task:
    _, _, target, arguments = record
    problem: dict[str, Value] = {
        "workload": workload,
        "target": _text(target),
        "arguments": _text(arguments),
    }
    dtypes = [each[1] for each in arguments or [] if isinstance(each, list) and len(each) > 1]
    return Task(KERNEL, problem, "/".join(dict.fromkeys(map(str, dtypes))), _device(target))


def _device(target: dict[str, Any] | None) -> str:
    """A few words: the tag of a target, or its kind with what tells its processors apart."""
    said = target or {}
    parts = [said.get("kind"), said.get("arch"), said.get("mcpu")]
    return str(said.get("tag") or " ".join(str(part) for part in parts if part))


def _measurement(record: _Record) -> Measurement:
    (instructions, decisions), run, _, _ = record
    values: dict[str, Value] = {INSTRUCTIONS: _text(instructions)}
    for place, decision in decisions:
        values[_knob(instructions, place)] = (
            decision if isinstance(decision, int) else _text(decision)
        )
    seconds = median(run) if run else FAILED
    worked = 0 < seconds < FAILED
    return Measurement(
        values=values,
        seconds=seconds if worked else None,
        failure="" if worked else "runtime",
        samples=len(run or []) if worked else 0,
        strategy="metaschedule",
    )


def _knob(instructions: Sequence[list[Any]], place: int) -> str:
    if not 0 <= place < len(instructions) or not instructions[place]:
        raise ValueError(f"a decision on instruction {place}, of {len(instructions)}")
    return f"{place} {instructions[place][0]}"


def _record(entry: Entry) -> _Record:
    values = dict(entry.measurement.values)
    instructions = _data(values.pop(INSTRUCTIONS))
    decisions = [(int(name.split()[0]), _data(value)) for name, value in values.items()]
    seconds = entry.measurement.seconds
    run = [1e10 if seconds is None else seconds]
    problem = entry.task.problem
    trace = (instructions, sorted(decisions, key=lambda each: each[0]))
    return trace, run, _data(problem["target"]), _data(problem["arguments"])


def _text(data: Any) -> str:
    return msgspec.json.encode(data).decode()


def _data(value: Value) -> Any:
    return msgspec.json.decode(value) if isinstance(value, str) else value

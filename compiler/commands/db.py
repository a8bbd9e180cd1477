"""
Look at measurements of tuned kernels, and move them between databases and files.

A TASK is the beginning of a key, or a pattern of kernels such as 'cpu.*'.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..argument_parser import add_common
from ..console import Console, table
from . import db_files
from .argument_types import count

if TYPE_CHECKING:
    from ...autotune.measurement import Measurement
    from ..tuning_database import Place

SUMMARY = "show, merge and exchange measurements of tuned kernels"
SHOWN, WIDEST = 20, 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", metavar="PART", required=True)

    def add(name: str, act: Callable[..., int], text: str) -> argparse.ArgumentParser:
        part = parts.add_parser(name, help=text, description=text)
        part.set_defaults(parser=part, act=act)
        add_common(part)
        part.add_argument("--database", metavar="F", type=Path, help="by default the user's own")
        return part

    tasks: dict[str, Any] = {"metavar": "TASK", "nargs": "*"}
    add("list", _list, "what was measured, a task a line").add_argument("tasks", **tasks)
    show = add("show", _show, "the measurements of tasks, the fastest first")
    show.add_argument("tasks", **tasks)
    show.add_argument("--limit", metavar="N", type=count, default=SHOWN, help="of each task")
    add("best", _best, "the best config of each task").add_argument("tasks", **tasks)
    db_files.add_arguments(add)
    add("check", _check, "read everything, and repair what is damaged")


def run(args: argparse.Namespace, console: Console) -> int:
    return args.act(args, console)


def _list(args: argparse.Namespace, console: Console) -> int:
    rows = [_summary(place) for place in _places(args, console)]
    shown = ["key", "kernel", "problem", "format", "device", "tried", "failed", "ms", "from"]
    console.result(rows, table([_for_people(row) for row in rows], shown))
    return 0


def _show(args: argparse.Namespace, console: Console) -> int:
    data, text = [], []
    for place in _places(args, console):
        measured = place.store.measurements(place.task)
        worked = sorted((each for each in measured if each.worked), key=lambda e: e.seconds or 0.0)
        failed = Counter(each.failure for each in measured if not each.worked)
        fastest = worked[: args.limit]
        data.append({**_identity(place), "measurements": fastest, "failed": failed})
        rows = [_measured(each) for each in fastest]
        text += [_heading(place), table(rows, list(rows[0])) if rows else "nothing worked"]
        text += [f"failed: {how} {times}" for how, times in failed.items()]
        text += [f"{len(worked)} worked, {len(fastest)} shown", ""]
    console.result(data, "\n".join(text))
    return 0


def _best(args: argparse.Namespace, console: Console) -> int:
    from ...autotune.database import best_of

    data, text = [], []
    for place in _places(args, console):
        best = best_of(place.store.measurements(place.task))
        data.append({**_identity(place), "best": best})
        config = "nothing that was checked worked" if best is None else _config(best)
        time = "" if best is None else f"{_milliseconds(best)} ms  "
        text.append(f"{_heading(place)}\n  {time}{config}")
    console.result(data, "\n".join(text))
    return 0


def _check(args: argparse.Namespace, console: Console) -> int:
    from ...autotune.database import Database
    from ..tuning_database import default_path

    database = Database(args.database or default_path(), console.note)
    damaged = database.verify()
    tasks = database.tasks()
    total = sum(len(database.measurements(task)) for task in tasks)
    data = {
        "database": str(database.path),
        "tasks": len(tasks),
        "measurements": total,
        "damaged_lines": damaged,
    }
    console.result(data, f"{database.path}: {total} measurements of {len(tasks)} tasks, all sound")
    return 0


def _places(args: argparse.Namespace, console: Console) -> list[Place]:
    from ..tuning_database import places, stores

    found = places(stores(args.database, console), args.tasks)
    if not found:
        console.note("nothing was measured yet; `qcc tune` measures")
    return found


def _identity(place: Place) -> dict[str, Any]:
    return {"key": place.task.key, "from": place.source, "task": place.task}


def _summary(place: Place) -> dict[str, Any]:
    from ...autotune.database import best_of

    measured = place.store.measurements(place.task)
    best = best_of(measured)
    return {
        **_identity(place),
        "tried": len(measured),
        "failed": sum(not each.worked for each in measured),
        "seconds": None if best is None else best.seconds,
    }


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    task = row["task"]
    return {
        **row,
        "kernel": task.kernel,
        "problem": _pairs(task.problem),
        "format": task.format,
        "device": task.device,
        "ms": None if row["seconds"] is None else row["seconds"] * 1e3,
    }


def _measured(measurement: Measurement) -> dict[str, Any]:
    marks = {
        "unchecked": not measurement.checked,
        "contended": measurement.contended,
        "modelled": measurement.modelled,
    }
    return {
        "ms": _milliseconds(measurement),
        "spread": f"{100 * measurement.spread:.1f}%",
        "n": measurement.samples,
        "by": measurement.strategy,
        "config": _config(measurement),
        "": " ".join(mark for mark, holds in marks.items() if holds),
    }


def _heading(place: Place) -> str:
    task = place.task
    device = f"on {task.device}" if task.device else ""
    parts = [task.kernel, _pairs(task.problem), task.format, device]
    return f"{task.key}  {' '.join(filter(None, parts))}  [{place.source}]"


def _config(measurement: Measurement) -> str:
    return _pairs(measurement.values)


def _pairs(values: dict[str, Any]) -> str:
    return " ".join(f"{name}={_short(str(value))}" for name, value in values.items())


def _short(text: str) -> str:
    """Traces of other tuners are texts of pages; --json has all of them."""
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _milliseconds(measurement: Measurement) -> str:
    return f"{(measurement.seconds or 0.0) * 1e3:.4g}"

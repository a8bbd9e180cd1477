"""The parts of `qcc db` that read and write files: export, import and merge."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ...autotune.interchange import KINDS
from ...dialects.errors import UsageError
from ..console import Console

if TYPE_CHECKING:
    from ...autotune.measurement import Measurement
    from ...autotune.task import Task
    from ..tuning_database import Place

Add = Callable[[str, Callable[..., int], str], argparse.ArgumentParser]


def add_arguments(add: Add) -> None:
    """`add` makes the parser of a part, of a name, a function and a line of help."""
    export = add("export", _export, "write measurements as JSON, for qcc or for other tuners")
    export.add_argument("tasks", metavar="TASK", nargs="*")
    export.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    export.add_argument("--as", dest="kind", choices=KINDS, default="qcc", help="default: qcc")
    export.add_argument("--recording", metavar="CACHE", default="", help="what T1 JSON replays")
    export.add_argument("--best", action="store_true", help="of each task the best, without host")
    read = add("import", _import, "add measurements from files of qcc or of other tuners")
    read.add_argument("files", metavar="FILE", nargs="+", type=Path)
    read.add_argument("--kernel", metavar="K", help="what the files measured, if they do not say")
    read.add_argument("--problem", metavar="N=V", nargs="+", default=[], help="its sizes")
    for flag in ("--format", "--device", "--toolchain"):
        read.add_argument(flag, metavar="T", default="", help="likewise")
    read.add_argument("--checked", action="store_true", help="their results were checked")
    merge = add("merge", _merge, "add what other databases hold")
    merge.add_argument("others", metavar="OTHER.db", nargs="+", type=Path)


def _export(args: argparse.Namespace, console: Console) -> int:
    from ...autotune.database import Collection, Entry
    from ...autotune.interchange.files import written
    from ..publish import publish_bytes, spare_inputs
    from ..tuning_database import places, stores

    spare_inputs(args.output, [args.database, args.recording or None])
    store = Collection(
        Entry(place.task, each)
        for place in places(stores(args.database, console), args.tasks)
        for each in _chosen(place, args.best)
    )
    publish_bytes(args.output, written(store, args.kind, args.output, args.recording))
    tasks = store.tasks()
    total = sum(len(store.measurements(task)) for task in tasks)
    data = {"output": str(args.output), "tasks": len(tasks), "measurements": total}
    console.result(data, f"{args.output}: {total} measurements of {len(tasks)} tasks")
    return 0


def _chosen(place: Place, best: bool) -> list[Measurement]:
    """All measurements of a task; or its best, if it has one, for people who measure elsewhere."""
    import msgspec

    from ...autotune.database import best_of

    measured = place.store.measurements(place.task)
    if not best:
        return measured
    found = best_of(measured)
    return [] if found is None else [msgspec.structs.replace(found, host="")]


def _import(args: argparse.Namespace, console: Console) -> int:
    from ...autotune.interchange.files import read_measurements
    from ..tuning_database import writable

    # All files are read before the first is kept: a damaged one changes nothing.
    task = _task(args)
    found = [(path, read_measurements(path, task, args.checked)) for path in args.files]
    database = writable(args.database, console)
    counts = [(path, database.add_all(entries)) for path, entries in found]
    return _added(counts, database.path, console)


def _task(args: argparse.Namespace) -> Task | None:
    """What files are of that do not say it themselves."""
    from ...autotune.task import Task

    if args.kernel is None:
        return None
    problem = dict(_size(text) for text in args.problem)
    return Task(args.kernel, problem, args.format, args.device, args.toolchain)


def _size(text: str) -> tuple[str, int | float | str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise UsageError("usage", f"'{text}' is no size", next_step="write it as n=4096")
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    return name, value


def _merge(args: argparse.Namespace, console: Console) -> int:
    from ...autotune.database import entries_of, open_store
    from ..tuning_database import writable

    found = [(path, list(entries_of(open_store(path, console.note)))) for path in args.others]
    database = writable(args.database, console)
    counts = [(path, database.add_all(entries)) for path, entries in found]
    return _added(counts, database.path, console)


def _added(counts: list[tuple[Path, int]], into: Path, console: Console) -> int:
    data = {"database": str(into), "added": {str(path): count for path, count in counts}}
    console.result(data, "\n".join(f"{into}: {count} new from {path}" for path, count in counts))
    return 0

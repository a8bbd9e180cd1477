"""The parts of `qcc db` that read and write files: export, import and merge."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ...dialects.errors import UsageError
from ..console import Console

Add = Callable[[str, Callable[..., int], str], argparse.ArgumentParser]


def add_arguments(add: Add) -> None:
    """`add` makes the parser of a part, of a name, a function and a line of help."""
    export = add("export", _export, "write measurements as JSON")
    export.add_argument("tasks", metavar="TASK", nargs="*")
    export.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    read = add("import", _import, "add measurements from JSON files")
    read.add_argument("files", metavar="FILE", nargs="+", type=Path)
    merge = add("merge", _merge, "add what other databases hold")
    merge.add_argument("others", metavar="OTHER.db", nargs="+", type=Path)


def _export(args: argparse.Namespace, console: Console) -> int:
    from ...autotune.database import Collection, Entry
    from ...autotune.database.document import encode_document
    from ..publish import publish_bytes, spare_inputs
    from ..tuning_database import places, stores

    spare_inputs(args.output, [args.database])
    store = Collection(
        Entry(place.task, each)
        for place in places(stores(args.database, console), args.tasks)
        for each in place.store.measurements(place.task)
    )
    publish_bytes(args.output, encode_document(store))
    tasks = store.tasks()
    total = sum(len(store.measurements(task)) for task in tasks)
    data = {"output": str(args.output), "tasks": len(tasks), "measurements": total}
    console.result(data, f"{args.output}: {total} measurements of {len(tasks)} tasks")
    return 0


def _import(args: argparse.Namespace, console: Console) -> int:
    from ...autotune.database import entries_of
    from ...autotune.database.document import decode_document
    from ..tuning_database import writable

    # All files are read before the first is kept: a damaged one changes nothing.
    found = [(path, decode_document(_read(path), str(path))) for path in args.files]
    database = writable(args.database, console)
    counts = [(path, database.add_all(entries_of(store))) for path, store in found]
    return _added(counts, database.path, console)


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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            "input-unreadable", f"cannot read '{path}'", why=error.strerror or str(error)
        ) from error

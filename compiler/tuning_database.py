"""Where the command line finds measurements: the user's own database, then those that ship."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..autotune.database import Database, Lookup, Store, open_store
from ..autotune.database.shipped import NAME, shipped
from ..autotune.task import Task
from ..dialects.errors import UsageError
from .argument_parser import nearest
from .console import Console
from .publish import make_folder

USER = "user"


@dataclass(frozen=True)
class Place:
    """A task and the store that has measurements of it."""

    task: Task
    source: str
    store: Store


def default_path() -> Path:
    """QCC_DATABASE, or tuning.db below the user's own data."""
    chosen = os.environ.get("QCC_DATABASE")
    if chosen:
        return Path(chosen)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "qcc" / "tuning.db"


def writable(path: Path | None, console: Console) -> Database:
    """The database in `path`, by default the user's own, made if need be."""
    if path is None:
        make_folder(default_path().parent)
    return Database(path or default_path(), console.note, create=True)


def stores(path: Path | None, console: Console) -> list[tuple[str, Store]]:
    """What is consulted, in this order. A database that is named must exist."""
    if path is None and not default_path().exists():
        return [(NAME, shipped())]
    return [(USER, open_store(path or default_path(), console.note)), (NAME, shipped())]


def lookup(path: Path | None, console: Console) -> Lookup:
    return Lookup(stores(path, console))


def places(found: Sequence[tuple[str, Store]], selectors: Sequence[str]) -> list[Place]:
    """
    The tasks that any of `selectors` names, a pattern of kernels or the beginning of a key; all
    tasks where there are none.

    Raises UsageError for a selector that names nothing.
    """
    everything = [Place(task, source, store) for source, store in found for task in store.tasks()]
    for selector in selectors:
        if not any(_names(selector, place.task) for place in everything):
            near = nearest(selector, {place.task.kernel for place in everything})
            raise UsageError(
                "task-unknown",
                f"nothing was measured for '{selector}'",
                why="it is neither a kernel, or a pattern of them, nor the beginning of a key",
                next_step=f"{near}`qcc db list` shows what there is",
            )
    return [
        place
        for place in everything
        if not selectors or any(_names(selector, place.task) for selector in selectors)
    ]


def _names(selector: str, task: Task) -> bool:
    return fnmatchcase(task.kernel, selector) or task.key.startswith(selector)

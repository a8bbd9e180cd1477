"""
A tuning database: a journal, which is the truth, and beside it a SQLite index of it.

    add      lock the journal → append, synced → insert into the index
    read     lock the journal → the index catches up with the journal → ask the index

So a writer may be killed anywhere: what its journal has is indexed by whoever comes next. Writers
take turns by the lock. An index that is damaged is set aside and built again from the journal; a
journal that was lost is written again from the index. Where the two are not of one database, as one
of them was copied from elsewhere, each takes what only the other has.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from ...dialects.errors import IntegrityError, ResourceError, UsageError
from ..measurement import Measurement
from ..task import Task
from .index import APPLICATION, FAULTS, HEADER, Index, damage
from .journal import Entry, OpenJournal, locked, read_entries
from .store import Collection, Store, entries_of

R = TypeVar("R")
Tell = Callable[[str], None]
_APPLICATION_AT = slice(68, 72)  # of the SQLite file format


class Database:
    """
    The database in the file `path` (its journal is `path`.journal), which any number of processes
    may use at a time. `tell` is called with what a user should know, such as a repair.

    Raises UsageError where there is none, unless it may `create` it, or where the file is something
    else; ResourceError where it may not be written; UnsupportedError where a newer qcc wrote it;
    IntegrityError where it is damaged and has no journal.
    """

    def __init__(self, path: Path, tell: Tell = lambda text: None, create: bool = False) -> None:
        self.path, self._tell = path, tell
        self.journal_path = journal_of(path)
        if not create and not (path.exists() or self.journal_path.exists()):
            raise UsageError(
                "database-missing",
                f"there is no tuning database '{path}'",
                next_step="`qcc tune` makes one, `qcc db import` too",
            )
        _refuse_foreign(path, self.journal_path)
        self._using(lambda index, journal: None)

    def add(self, task: Task, measurements: Iterable[Measurement]) -> int:
        """Keep measurements of `task`; how many were new. They are on disk when this returns."""
        return self.add_all([Entry(task, measurement) for measurement in measurements])

    def add_all(self, entries: Iterable[Entry]) -> int:
        """As `add`, of many tasks."""
        given = {entry.hash: entry for entry in entries}
        kept: set[str] = set()

        def act(index: Index, journal: OpenJournal) -> None:
            fresh = [entry for entry in given.values() if not index.holds(entry)]
            if fresh:
                journal.append(fresh)
                kept.update(entry.hash for entry in fresh)
                index.absorb(fresh, journal)

        self._using(act)
        return len(kept)

    def tasks(self) -> list[Task]:
        """All of them, in the order of their first measurement."""
        return self._using(lambda index, journal: index.tasks())

    def measurements(self, task: Task) -> list[Measurement]:
        """Those of one task, in the order in which they came."""
        return self._using(lambda index, journal: index.measurements(task))

    def verify(self) -> int:
        """
        Read everything, repair what is damaged, and return how many lines of the journal were.

        What only one of journal and index has, the other has then too.
        """

        def act(index: Index, journal: OpenJournal) -> int:
            index.verify()
            damaged = sum(entry is None for entry in journal.entries())
            if damaged:
                aside = _aside(self.journal_path)
                shutil.copy(self.journal_path, aside)
                index.absorb(filter(None, journal.entries()), journal)
                journal.clear()
                self._tell(f"{damaged} damaged lines; the journal as it was is '{aside.name}'")
            self._join(index, journal)
            return damaged

        return self._using(act)

    def _using(self, act: Callable[[Index, OpenJournal], R]) -> R:
        """`act` on the index, caught up with the journal; once more after a repair."""
        with locked(self.journal_path) as journal:
            try:
                return self._attempt(act, journal)
            except FAULTS as error:
                self._set_aside(damage(self.path, error), journal)
            try:
                return self._attempt(act, journal)
            except FAULTS as error:
                raise IntegrityError(
                    "database-damaged",
                    "the tuning database is damaged again after it was rebuilt",
                    where=str(self.path),
                    why=damage(self.path, error),
                    next_step="look at the disk and the memory of this machine",
                ) from error

    def _attempt(self, act: Callable[[Index, OpenJournal], R], journal: OpenJournal) -> R:
        with closing(Index(self.path)) as index:
            self._catch_up(index, journal)
            result = act(index, journal)
            index.commit()
            return result

    def _catch_up(self, index: Index, journal: OpenJournal) -> None:
        absorbed = index.absorbed
        if not index.follows(journal):
            self._join(index, journal)
        elif absorbed < journal.size:
            count = index.absorb(self._whole(journal.entries(absorbed)), journal)
            if not absorbed:
                self._tell(f"'{self.path}' was built from its journal: {count} measurements")

    def _whole(self, entries: Iterable[Entry | None]) -> Iterator[Entry]:
        damaged = 0
        for entry in entries:
            if entry is None:
                damaged += 1
            else:
                yield entry
        if damaged:
            self._tell(f"{damaged} damaged lines of '{self.journal_path}' were left out")

    def _join(self, index: Index, journal: OpenJournal) -> None:
        """Give each what only the other has."""
        there = {entry.hash for entry in journal.entries() if entry is not None}
        lost = [entry for entry in entries_of(index) if entry.hash not in there]
        journal.append(lost)
        if lost:
            self._tell(f"{len(lost)} measurements were written again to '{self.journal_path}'")
        missed = index.absorb(self._whole(journal.entries()), journal)
        if missed:
            self._tell(f"{missed} measurements of '{self.journal_path}' were missing in the index")

    def _set_aside(self, why: str, journal: OpenJournal) -> None:
        """Rename a damaged index and what SQLite left beside it, if the journal can replace it."""
        if not journal.size:
            raise IntegrityError(
                "database-damaged",
                "the tuning database is damaged, and its journal is empty or lost",
                where=str(self.path),
                why=why,
                next_step="restore one of the two from a copy, or name another database",
            )
        aside = _aside(self.path)
        os.rename(self.path, aside)
        rollback = self.path.with_name(f"{self.path.name}-journal")
        if rollback.exists():
            os.rename(rollback, aside.with_name(f"{aside.name}-journal"))
        self._tell(f"'{self.path}' is damaged ({why}) and was set aside as '{aside.name}'")


def _aside(path: Path) -> Path:
    """A name for a damaged file that no file has."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside


def journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.journal")


def open_store(path: Path, tell: Tell = lambda text: None) -> Store:
    """
    The database in `path` to read: where it may not be written, a copy in memory.

    Raises as `Database` does.
    """
    try:
        return Database(path, tell)
    except ResourceError as error:
        if error.code != "database-read-only":
            raise
    return Collection([*_in_journal(journal_of(path), tell), *_in_index(path, tell)])


def _in_journal(path: Path, tell: Tell) -> list[Entry]:
    found = list(read_entries(path)) if path.exists() else []
    if None in found:
        tell(f"{found.count(None)} damaged lines of '{path}' were left out")
    return [entry for entry in found if entry is not None]


def _in_index(path: Path, tell: Tell) -> list[Entry]:
    """What an index has that may not be repaired; nothing where it is damaged."""
    try:
        with closing(Index(path)) as index:
            return list(entries_of(index))
    except FAULTS as error:
        tell(f"'{path}' is damaged ({error}), and may not be repaired")
        return []


def _refuse_foreign(path: Path, journal: Path) -> None:
    """Without a journal beside it, a file that qcc did not write is somebody else's."""
    if journal.exists() or not path.exists():
        return
    try:
        with path.open("rb") as file:
            head = file.read(len(HEADER) + _APPLICATION_AT.stop)
    except OSError as error:
        raise _foreign(path, error.strerror or str(error)) from error
    ours = head.startswith(HEADER) and head[_APPLICATION_AT] == APPLICATION.to_bytes(4)
    if head and not ours:
        raise _foreign(path, "it has not the header of one, and no journal lies beside it")


def _foreign(path: Path, why: str) -> UsageError:
    return UsageError(
        "database-foreign",
        f"'{path}' is no tuning database",
        why=why,
        next_step="name another file; this one was left as it is",
    )

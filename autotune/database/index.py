"""
The SQLite side of a tuning database: what the journal holds, found by task.

SQLite's own checks see pages that do not fit together, not a changed value in one. So each task
keeps the number of its measurements and the exclusive or of their hashes, and the whole keeps the
same of its tasks; what is read is compared with them.

SQLite need not sync, as a power cut costs no more than building the index again. It does not use
its write-ahead log, which needs shared memory: network file systems have none.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import msgspec

from ...dialects.errors import ResourceError
from ..measurement import Measurement
from ..task import Task
from .journal import PATIENCE, VERSION, Entry, OpenJournal, newer

APPLICATION = 0x71636354  # "qccT", in the header of each such file
HEADER = b"SQLite format 3\0"
_ABSORBED, _MARK = "absorbed", "mark"
_HEXADECIMAL = re.compile("[0-9a-f]{32}")

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tasks (
  key TEXT PRIMARY KEY, number INTEGER NOT NULL, json BLOB NOT NULL,
  count INTEGER NOT NULL, digest TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE measurements (
  number INTEGER PRIMARY KEY, task TEXT NOT NULL, hash TEXT NOT NULL, json BLOB NOT NULL,
  UNIQUE (task, hash)
);
"""


class DamagedError(Exception):
    """The file is not what qcc wrote; its journal can replace it."""


FAULTS = (DamagedError, sqlite3.Error, UnicodeDecodeError)
"""What reading and writing an index may raise; see `damage`. SQLite's messages may quote bytes."""


class Index:
    """An open connection. Changes are kept by `commit`; any method may raise one of FAULTS."""

    def __init__(self, path: Path) -> None:
        self._sql = sqlite3.connect(path, timeout=PATIENCE, isolation_level="IMMEDIATE")
        try:
            self._sql.execute("PRAGMA synchronous = OFF")
            self._identify(path)
        except BaseException:
            self._sql.close()
            raise

    def close(self) -> None:
        self._sql.close()

    def commit(self) -> None:
        self._sql.commit()

    @property
    def absorbed(self) -> int:
        """How many bytes of the journal are in the index."""
        return self._fact(_ABSORBED)

    def follows(self, journal: OpenJournal) -> bool:
        """Whether what was absorbed are the first bytes of `journal`, and not of another one."""
        absorbed = self.absorbed
        if not absorbed:
            return True
        found = self._sql.execute("SELECT value FROM facts WHERE name = ?", (_MARK,)).fetchone()
        return absorbed <= journal.size and found == (journal.mark(absorbed),)

    def absorb(self, entries: Iterable[Entry], journal: OpenJournal) -> int:
        """Insert `entries`, with which all of `journal` is in the index; how many were new."""
        fresh, size = sum(map(self._insert, entries)), journal.size
        for fact in ((_ABSORBED, size), (_MARK, journal.mark(size))):
            self._sql.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", fact)
        return fresh

    def holds(self, entry: Entry) -> bool:
        found = self._sql.execute(
            "SELECT 1 FROM measurements WHERE task = ? AND hash = ?", (entry.task.key, entry.hash)
        )
        return found.fetchone() is not None

    def tasks(self) -> list[Task]:
        """All of them, in the order of their first measurement."""
        rows = self._sql.execute("SELECT key, json FROM tasks ORDER BY number").fetchall()
        if len(rows) != self._fact("tasks"):
            raise DamagedError(f"{len(rows)} tasks, where {self._fact('tasks')} were stored")
        if any(_hash(b"", json)[: len(str(key))] != key for key, json in rows):
            raise DamagedError("a task is not what its key says")
        return [msgspec.json.decode(json, type=Task) for _, json in rows]

    def measurements(self, task: Task) -> list[Measurement]:
        """Those of one task, in the order in which they came."""
        stored = self._task(task)
        if stored is None:
            if task in self.tasks():
                raise DamagedError(f"task {task.key} is not found by its key")
            return []
        rows = self._sql.execute(
            "SELECT json FROM measurements WHERE task = ? ORDER BY number", (task.key,)
        ).fetchall()
        digest = 0
        for (json,) in rows:
            digest ^= int(_hash(task.json, json), 16)
        if stored != (len(rows), f"{digest:032x}"):
            raise DamagedError(
                f"the measurements of task {task.key} are not those that were stored"
            )
        return [msgspec.json.decode(json, type=Measurement) for (json,) in rows]

    def verify(self) -> None:
        """Raises DamagedError unless SQLite finds no fault and every measurement is as stored."""
        faults = [text for (text,) in self._sql.execute("PRAGMA integrity_check(3)")]
        if faults != ["ok"]:
            raise DamagedError("; ".join(faults))
        for task in self.tasks():
            self.measurements(task)

    def _identify(self, path: Path) -> None:
        application = self._pragma("application_id")
        if not application and not self._pragma("schema_version"):
            self._create()
            return
        version = self._pragma("user_version")
        if (application, version) == (APPLICATION, VERSION):
            return
        # A flipped bit must not pass for a newer release: both places have to say so.
        if application == APPLICATION and version == self._fact("version") and version > VERSION:
            raise newer("its schema", str(path))
        raise DamagedError(f"application {application:#x}, schema {version}")

    def _create(self) -> None:
        self._sql.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
            f"{_TABLES}"
            f"INSERT INTO facts VALUES ('version', {VERSION}), ('{_ABSORBED}', 0), ('tasks', 0);"
            "COMMIT;"
        )

    def _insert(self, entry: Entry) -> bool:
        """False where it is there already."""
        task, hashed = entry.task, entry.hash
        if self.holds(entry):
            return False
        self._sql.execute(
            "INSERT INTO measurements (task, hash, json) VALUES (?, ?, ?)",
            (task.key, hashed, entry.measurement.json),
        )
        stored = self._task(task)
        if stored is None:
            self._sql.execute(
                "INSERT INTO tasks SELECT ?, value, ?, 1, ? FROM facts WHERE name = 'tasks'",
                (task.key, task.json, hashed),
            )
            self._sql.execute("UPDATE facts SET value = value + 1 WHERE name = 'tasks'")
            return True
        count, digest = stored
        both = int(digest, 16) ^ int(hashed, 16)
        self._sql.execute(
            "UPDATE tasks SET count = ?, digest = ? WHERE key = ?",
            (count + 1, f"{both:032x}", task.key),
        )
        return True

    def _task(self, task: Task) -> tuple[int, str] | None:
        """The number of its measurements and the exclusive or of their hashes."""
        found = self._sql.execute("SELECT count, digest FROM tasks WHERE key = ?", (task.key,))
        row = found.fetchone()
        if row is not None and not (
            isinstance(row[0], int) and _HEXADECIMAL.fullmatch(str(row[1]))
        ):
            raise DamagedError(f"the count and digest of task {task.key} are {row!r}")
        return row

    def _fact(self, name: str) -> int:
        row = self._sql.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        if row is None or not isinstance(row[0], int):
            raise DamagedError(f"the fact '{name}' is missing")
        return row[0]

    def _pragma(self, name: str) -> int:
        return int(self._sql.execute(f"PRAGMA {name}").fetchone()[0])


def _hash(before: bytes, stored: object) -> str:
    if not isinstance(stored, bytes):
        raise DamagedError(f"{type(stored).__name__} where JSON was stored")
    return sha256(before + stored).hexdigest()[:32]


def damage(path: Path, error: Exception) -> str:
    """
    What is damaged, where `error` says that something is; otherwise raises what explains it.

    Raises ResourceError for a lock, a full disk or missing rights.
    """
    if not isinstance(error, sqlite3.Error):
        return str(error)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    # A damaged header can also say that the file is not for writing.
    if code not in _RESOURCES or (code == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK)):
        return str(error)
    name, next_step = _RESOURCES[code]
    raise ResourceError(
        name,
        f"SQLite cannot use '{path.name}'",
        where=str(path.parent),
        why=str(error),
        next_step=f"what was measured before is kept; {next_step}",
    ) from error


_RESOURCES = {
    sqlite3.SQLITE_BUSY: ("database-busy", "end the process that keeps it"),
    sqlite3.SQLITE_LOCKED: ("database-busy", "end the process that keeps it"),
    sqlite3.SQLITE_FULL: ("disk-full", "free disk space"),
    sqlite3.SQLITE_IOERR: ("database-io", "look at the disk, then run it again"),
    sqlite3.SQLITE_CANTOPEN: ("database-read-only", "name a file that you may write"),
    sqlite3.SQLITE_READONLY: ("database-read-only", "name a file that you may write"),
    sqlite3.SQLITE_PERM: ("database-read-only", "name a file that you may write"),
    sqlite3.SQLITE_NOMEM: ("out-of-memory", "close other programs"),
}

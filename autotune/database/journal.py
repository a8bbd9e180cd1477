"""
The journal of a tuning database: what it holds, as lines of JSON that are only ever appended.

    {"sum": "9f0c…", "entry": {"measurement": {…}, "task": {…}, "version": 1}}

`sum` is of the bytes of `entry`, so a damaged line is known before its content is believed. A batch
is on disk before its writer goes on. A line without its end was never acknowledged: the next
writer cuts it off.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec

from ...dialects.errors import QccError, ResourceError, UnsupportedError, UsageError
from ..measurement import Measurement
from ..task import Task

VERSION = 1
PATIENCE = 30.0
_BLOCK = 1 << 16
_MARKED = 1 << 12
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LOCKED = {errno.EAGAIN, errno.EACCES}


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measurement of one task."""

    task: Task
    measurement: Measurement
    version: int = VERSION

    @property
    def hash(self) -> str:
        return self.measurement.hash(self.task)


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    sum: str
    entry: msgspec.Raw


class _Version(msgspec.Struct):
    version: int


class OpenJournal:
    """A journal that this process alone may change; see `locked`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self._fd = path, fd

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def entries(self, start: int = 0) -> Iterator[Entry | None]:
        """Those from byte `start` on, which begins a line; None for a damaged line."""
        with open(os.dup(self._fd), "rb") as file:
            file.seek(start)
            yield from map(decoded, file)

    def mark(self, end: int) -> int:
        """A number that tells what byte `end` follows here from what it follows elsewhere."""
        start = max(0, end - _MARKED)
        return int.from_bytes(sha256(os.pread(self._fd, end - start, start)).digest()[:7])

    def append(self, entries: Iterable[Entry]) -> None:
        """All of them, on disk when this returns, or none of them."""
        data, before = b"".join(map(_encoded, entries)), self.size
        try:
            _write(self._fd, data)
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, before)
            raise write_error(self.path, error) from error

    def clear(self) -> None:
        os.ftruncate(self._fd, 0)

    def cut_torn_line(self) -> None:
        """Drop what a killed writer, or a power cut, left after the last whole line."""
        size = start = self.size
        newline = -1
        while start and newline < 0:
            start = max(0, start - _BLOCK)
            newline = os.pread(self._fd, _BLOCK, start).rfind(b"\n")
        end = start + newline + 1
        if end < size:
            os.ftruncate(self._fd, end)


@contextmanager
def locked(path: Path) -> Iterator[OpenJournal]:
    """
    The journal at `path`, made if need be, for this process alone.

    Raises ResourceError where it cannot be written, or where another process keeps it for longer
    than PATIENCE seconds.
    """
    fd = _open_locked(path)
    try:
        journal = OpenJournal(path, fd)
        journal.cut_torn_line()
        yield journal
    finally:
        os.close(fd)


def read_entries(path: Path) -> Iterator[Entry | None]:
    """As `OpenJournal.entries`, of a journal that may not be written."""
    with path.open("rb") as file:
        yield from (decoded(line) for line in file if line.endswith(b"\n"))


def decoded(line: bytes) -> Entry | None:
    """None for a damaged line; raises UnsupportedError for one of a newer qcc."""
    try:
        parts = msgspec.json.decode(line, type=_Line)
        if _sum(parts.entry) != parts.sum:
            return None
        if msgspec.json.decode(parts.entry, type=_Version).version > VERSION:
            raise newer("a line of its journal")
        return msgspec.json.decode(parts.entry, type=Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError, UsageError):
        return None


def newer(what: str, where: str = "") -> UnsupportedError:
    return UnsupportedError(
        "database-newer",
        "a newer qcc wrote this tuning database",
        where=where,
        why=f"{what} has a version above {VERSION}, the latest that this qcc knows",
        next_step="update qcc, or name another database",
    )


def write_error(path: Path, error: OSError) -> QccError:
    """The ResourceError that explains why nothing can be written beside `path`."""
    full = error.errno in _FULL
    return ResourceError(
        "disk-full" if full else "database-read-only",
        f"no room to write '{path.name}'" if full else f"cannot write '{path.name}'",
        where=str(path.parent),
        why=error.strerror or str(error),
        next_step="what was measured before is kept; "
        + ("free disk space" if full else "name a database in a folder that you may write to"),
    )


def _open_locked(path: Path) -> int:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise write_error(path, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
        except OSError as error:
            if error.errno not in _LOCKED or time.monotonic() > end:
                os.close(fd)
                raise _busy(path, error) from error
        os.close(fd)
        time.sleep(0.01)


def _busy(path: Path, error: OSError) -> ResourceError:
    return ResourceError(
        "database-busy",
        f"'{path.name}' cannot be locked",
        where=str(path.parent),
        why=error.strerror or str(error),
        next_step="end the process that keeps it, or name a database on a local disk",
    )


def _encoded(entry: Entry) -> bytes:
    raw = msgspec.json.encode(entry, order="sorted")
    return msgspec.json.encode(_Line(_sum(raw), msgspec.Raw(raw))) + b"\n"


def _sum(raw: bytes | msgspec.Raw) -> str:
    return sha256(bytes(raw)).hexdigest()[:32]


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]

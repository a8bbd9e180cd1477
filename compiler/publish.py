"""
Files that appear whole or not at all.

A `StagedFile` is written beside its destination under another name and renamed onto it when it is
complete and on disk. Whatever happens before that (an error, Ctrl-C, SIGKILL, a full disk), the
old file stays as it was. A killed writer leaves its staging file behind; the next writer of the
same destination finds it unlocked and removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..dialects.errors import QccError, ResourceError, UsageError

Bytes = bytes | bytearray | memoryview

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_COPY_STEP = 1 << 22
_NO_FALLOCATE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


class StagedFile:
    """
    The future contents of `path`; `publish` makes them visible, leaving the block discards them.

    Raises UsageError where the destination cannot be written, ResourceError on a full disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        _require_replaceable(self.path)
        with writing(self.path):
            _remove_abandoned(self.path)
            self.temporary, self._fd = _create(self.path)
        self._open = True

    def __enter__(self) -> StagedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def fileno(self) -> int:
        return self._fd

    def reserve(self, offset: int, size: int) -> None:
        """Claim disk space now, so that a full disk is found before hours of work."""
        if size == 0:
            return
        with writing(self.path):
            try:
                os.posix_fallocate(self._fd, offset, size)
            except OSError as error:
                if error.errno not in _NO_FALLOCATE:
                    raise

    def write_at(self, offset: int, data: Bytes) -> None:
        """Write all of `data` (bytes) at `offset`; safe to call from several threads."""
        view = memoryview(data)
        with writing(self.path):
            while view:
                written = os.pwrite(self._fd, view, offset)
                view, offset = view[written:], offset + written

    def read_at(self, offset: int, size: int) -> bytearray:
        """`size` bytes that were written at `offset`."""
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            got = os.preadv(self._fd, [rest], offset)
            if not got:
                raise ValueError(f"nothing was written at {offset}")
            rest, offset = rest[got:], offset + got
        return data

    def sync(self) -> None:
        with writing(self.path):
            os.fsync(self._fd)

    def publish(self) -> None:
        """Sync, rename onto the destination, and sync the folder that holds the name."""
        self.sync()
        with writing(self.path):
            os.replace(self.temporary, self.path)
            self._open = False
            os.close(self._fd)
            _sync_folder(self.path.parent)

    def discard(self) -> None:
        if not self._open:
            return
        self._open = False
        with suppress(OSError):
            self.temporary.unlink(missing_ok=True)
        os.close(self._fd)


def publish_bytes(path: Path, data: Bytes) -> None:
    """Replace `path` by a file that holds `data`."""
    with StagedFile(path) as staged:
        staged.write_at(0, data)
        staged.publish()


def spare_inputs(output: Path, inputs: Iterable[str | Path | None]) -> None:
    """
    Raise UsageError where `output` is one of the files that are read to make it.

    Links are followed, hard ones too. An input may also be `file:function`; None is no input.
    """
    for given in inputs:
        if given is None or not output.exists():
            continue
        path = Path(given)
        if not path.exists():
            path = Path(str(given).rpartition(":")[0])
        if path.is_file() and path.samefile(output):
            raise UsageError(
                "output-is-input",
                f"the output '{output}' is an input of the same command",
                where=str(path),
                why="it would be overwritten by what is made from it",
                next_step="name another output",
            )


def require_writable(path: Path) -> None:
    """Raise UsageError where a file cannot be published at `path`, before the work for it."""
    _require_replaceable(path)
    with writing(path):
        if not path.parent.is_dir():
            code = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
            raise OSError(code, os.strerror(code))
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def make_folder(path: Path) -> None:
    """Make the folder `path` with its parents; UsageError where that is not possible."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError met while writing towards `path` into the QccError that explains it."""
    try:
        yield
    except OSError as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: OSError) -> QccError:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return ResourceError(
            "disk-full",
            f"no room to write '{path.name}'",
            where=str(path.parent),
            why=reason,
            next_step="free disk space or name another folder; the old file, if any, is untouched",
        )
    return UsageError(
        "output-not-writable",
        f"cannot write '{path.name}'",
        where=str(path.parent),
        why=reason,
        next_step="name a folder that exists and that you may write to",
    )


def _require_replaceable(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise UsageError(
            "output-not-a-file",
            f"'{path}' exists and is not a regular file",
            next_step="name a file; a device or a folder is never replaced",
        )


def _create(path: Path) -> tuple[Path, int]:
    """A new, locked staging file; the lock tells other writers that its owner lives."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks: nobody can tell the file is abandoned, so it is kept.
            return temporary, fd
        if os.fstat(fd).st_nlink:
            return temporary, fd
        os.close(fd)


def _remove_abandoned(path: Path) -> None:
    prefix, suffix = f".{path.name}.", ".part"
    for entry in os.scandir(path.parent):
        if not (entry.name.startswith(prefix) and entry.name.endswith(suffix)):
            continue
        with suppress(OSError):
            fd = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)
            finally:
                os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems cannot sync a folder; the rename itself has succeeded.
        with suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


def publish_copy(source: int, path: Path) -> None:
    """Replace `path` by a copy of the open file `source`, which may have lost its name."""
    with StagedFile(path) as staged:
        offset = 0
        while block := os.pread(source, _COPY_STEP, offset):
            staged.write_at(offset, block)
            offset += len(block)
        staged.publish()

"""
Zip archives read without trust: every check is made when the file is opened.

Used for `.pt2` models and `.qcc` artifacts. Members are stored, never compressed, so the archive
cannot grow when read, a member's bytes lie at one offset of the file, and `offset` is all that a
reader needs to fetch them with `pread`. Paths are names only; nothing is ever unpacked to disk.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from ...dialects.errors import IntegrityError, UsageError

LOCAL_MAGIC = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_HAS_DESCRIPTOR = 0x8
_MAX_MEMBERS = 200_000
_MAX_NAME = 1024
_READ_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    ValueError,
)


_CRC_STEP = 1 << 22


@dataclass(frozen=True, slots=True)
class Stored:
    """A member's bytes: where they lie in the file, and their CRC-32."""

    name: str
    offset: int
    size: int
    crc: int

    def intact(self, file: int) -> bool:
        """Whether the bytes, read as a stream from the descriptor `file`, have that CRC."""
        crc, at, end = 0, self.offset, self.offset + self.size
        while at < end:
            data = os.pread(file, min(_CRC_STEP, end - at), at)
            if not data:
                return False
            crc, at = zlib.crc32(data, crc), at + len(data)
        return crc == self.crc


class Archive:
    """An opened, fully checked archive; close it or use it in a `with` block."""

    def __init__(self, path: Path, file: BinaryIO, members: dict[str, Stored]) -> None:
        self.path = path
        self._file = file
        self._members = members

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def close(self) -> None:
        self._file.close()

    def names(self) -> tuple[str, ...]:
        """Member names in the order of the archive's directory."""
        return tuple(self._members)

    def size(self, name: str) -> int:
        return self._member(name).size

    def offset(self, name: str) -> int:
        """Byte offset in the file at which the member's `size` stored bytes begin."""
        return self._member(name).offset

    def stored(self) -> tuple[Stored, ...]:
        """Where every member lies, in the order of the archive's directory."""
        return tuple(self._members.values())

    def read(self, name: str, limit: int) -> bytes:
        """The member's bytes, checked against its CRC; more than `limit` bytes are refused."""
        member = self._member(name)
        if member.size > limit:
            _refuse(self.path, name, f"it holds {member.size} bytes, the limit is {limit}")
        data = os.pread(self._file.fileno(), member.size, member.offset)
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise changed(self.path, name)
        return data

    def _member(self, name: str) -> Stored:
        if name not in self._members:
            raise IntegrityError(
                "archive-member-missing",
                f"the archive has no member '{name}'",
                where=str(self.path),
                next_step="write the file again; it may be of another kind or cut short",
            )
        return self._members[name]


def open_archive(path: str | os.PathLike[str]) -> Archive:
    """
    Check every member of a zip file and return it opened.

    Raises IntegrityError for damage (cut short, overlapping members, headers that disagree) and
    for what qcc never accepts: compression, encryption, links, duplicate names, and names that
    are absolute or climb; UsageError if the file cannot be opened at all.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(
            "file-unreadable",
            f"cannot open '{path}'",
            why=error.strerror or str(error),
            next_step="give a file that exists and that you may read",
        ) from error
    try:
        members = _checked_members(path, file)
    except BaseException:
        file.close()
        raise
    return Archive(path, file, members)


def list_members(path: Path) -> tuple[str, ...]:
    """The names in a zip file's directory, unchecked: only to tell what kind of file it is."""
    with path.open("rb") as file:
        return tuple(_directory(path, file).namelist())


def _directory(path: Path, file: BinaryIO) -> zipfile.ZipFile:
    head = file.read(4)
    if head != LOCAL_MAGIC:
        _damaged(path, "it does not begin with a zip member" if head else "it is empty")
    try:
        return zipfile.ZipFile(file)
    except _READ_ERRORS as error:
        _damaged(path, f"its directory cannot be read: {error}", error)


def _checked_members(path: Path, file: BinaryIO) -> dict[str, Stored]:
    directory = _directory(path, file)
    entries = directory.infolist()
    if len(entries) > _MAX_MEMBERS:
        _damaged(path, f"it lists {len(entries)} members, the limit is {_MAX_MEMBERS}")
    members: dict[str, Stored] = {}
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        _check_entry(path, entry)
        if entry.filename in members:
            _refuse(path, entry.filename, "the name appears twice")
        if entry.header_offset < end:
            _refuse(path, entry.filename, "it overlaps another member")
        offset = _data_offset(path, file, entry)
        end = offset + entry.file_size
        if end > directory.start_dir:
            _refuse(path, entry.filename, "it runs into the archive's directory")
        members[entry.filename] = Stored(entry.filename, offset, entry.file_size, entry.CRC)
    return {entry.filename: members[entry.filename] for entry in entries}


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    if name != entry.filename or not _is_inner_path(name):
        _refuse(path, name, "its name is not a plain relative path")
    if entry.flag_bits & _ENCRYPTED:
        _refuse(path, name, "it is encrypted")
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        _refuse(path, name, "it is compressed; qcc reads stored members only")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        _refuse(path, name, "it is a link or a special file")


def _is_inner_path(name: str) -> bool:
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        return False
    if "\\" in name or ":" in name:
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))


def _data_offset(path: Path, file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where the stored bytes begin, after checking that the local header tells the same story."""
    header = os.pread(file.fileno(), _LOCAL_HEADER.size, max(entry.header_offset, 0))
    if len(header) < _LOCAL_HEADER.size or entry.header_offset < 0:
        _damaged(path, f"the header of '{entry.filename}' is cut off")
    magic, _, flags, method, _, _, _, packed, size, name_size, extra_size = _LOCAL_HEADER.unpack(
        header
    )
    name_at = entry.header_offset + _LOCAL_HEADER.size
    name = os.pread(file.fileno(), name_size, name_at)
    if magic != LOCAL_MAGIC or name.decode("utf-8", "replace") != entry.filename:
        _refuse(path, entry.filename, "its own header names something else")
    if flags & _ENCRYPTED or method != zipfile.ZIP_STORED:
        _refuse(path, entry.filename, "its own header says encrypted or compressed")
    if not flags & _HAS_DESCRIPTOR and {packed, size} - {entry.file_size, 0xFFFFFFFF}:
        _refuse(path, entry.filename, "its own header gives another size")
    return name_at + name_size + extra_size


def changed(path: Path, name: str) -> IntegrityError:
    """The error for a member whose bytes are not those that were stored."""
    return IntegrityError(
        "archive-damaged",
        f"the bytes of '{name}' do not match their checksum",
        where=str(path),
        why="the file was damaged after it was written",
        next_step="copy or write the file again",
    )


def _refuse(path: Path, name: str, why: str) -> NoReturn:
    raise IntegrityError(
        "archive-member-refused",
        f"the archive member {name[:200]!r} is refused",
        where=str(path),
        why=why,
        next_step="write the file again with torch.export.save or qcc; do not trust this copy",
    )


def _damaged(path: Path, why: str, cause: BaseException | None = None) -> NoReturn:
    raise IntegrityError(
        "archive-damaged",
        "the archive is damaged or not an archive",
        where=str(path),
        why=why,
        next_step="copy or write the file again",
    ) from cause

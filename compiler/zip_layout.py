"""
The bytes of a `.qcc` archive around its members, as a function of the member list alone.

Members are stored one after the other, each beginning on a 64-byte boundary so that it can be
mapped; dates, modes and version fields are constants. Since nothing else may differ, a reader
rebuilds the headers from the manifest and compares: one flipped bit anywhere is noticed.
Record layouts: PKWARE APPNOTE 6.3.10, §4.3.7, §4.3.12, §4.3.14 to §4.3.16 and §4.5.3 (zip64).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ALIGNMENT = 64
_MAX32 = 0xFFFFFFFF
_DATE_1980 = 0x0021
_REGULAR_FILE = 0o100644 << 16
_MADE_ON_UNIX = 3 << 8
_ZIP64_ID = 0x0001
# Not in PKWARE's registry; only its length matters.
_PADDING_ID = 0x7163


@dataclass(frozen=True, slots=True)
class Placed:
    """A member and where it lies: `header` and `data` are byte offsets in the file."""

    name: str
    size: int
    crc32: int
    header: int

    @property
    def data(self) -> int:
        return self.header + len(local_header(self))

    @property
    def end(self) -> int:
        return self.data + self.size


def place(members: Iterable[tuple[str, int, int]]) -> Iterator[Placed]:
    """Lay (name, size, crc32) members one after the other from the start of the file."""
    at = 0
    for name, size, crc32 in members:
        placed = Placed(name, size, crc32, at)
        yield placed
        at = placed.end


def local_header(member: Placed) -> bytes:
    name = member.name.encode("ascii")
    large = member.size >= _MAX32
    extra = struct.pack("<2H2Q", _ZIP64_ID, 16, member.size, member.size) if large else b""
    extra += _padding(member.header + 30 + len(name) + len(extra))
    size = _MAX32 if large else member.size
    return (
        struct.pack(
            "<4s5H3I2H",
            b"PK\x03\x04",
            45 if large else 20,
            0,
            0,
            0,
            _DATE_1980,
            member.crc32,
            size,
            size,
            len(name),
            len(extra),
        )
        + name
        + extra
    )


def directory(members: Iterable[Placed]) -> bytes:
    """Everything after the last member: the central directory and its end records."""
    members = list(members)
    start = members[-1].end if members else 0
    entries = b"".join(map(_directory_entry, members))
    count = len(members)
    large = start >= _MAX32 or count >= 0xFFFF
    end = struct.pack(
        "<4s4H2IH",
        b"PK\x05\x06",
        0,
        0,
        0xFFFF if large else count,
        0xFFFF if large else count,
        _MAX32 if large else len(entries),
        _MAX32 if large else start,
        0,
    )
    return entries + (_zip64_end(count, len(entries), start) if large else b"") + end


def _directory_entry(member: Placed) -> bytes:
    name = member.name.encode("ascii")
    wide = b""
    if member.size >= _MAX32:
        wide += struct.pack("<2Q", member.size, member.size)
    if member.header >= _MAX32:
        wide += struct.pack("<Q", member.header)
    extra = struct.pack("<2H", _ZIP64_ID, len(wide)) + wide if wide else b""
    version = 45 if wide else 20
    return (
        struct.pack(
            "<4s6H3I5H2I",
            b"PK\x01\x02",
            _MADE_ON_UNIX | version,
            version,
            0,
            0,
            0,
            _DATE_1980,
            member.crc32,
            min(member.size, _MAX32),
            min(member.size, _MAX32),
            len(name),
            len(extra),
            0,
            0,
            0,
            _REGULAR_FILE,
            min(member.header, _MAX32),
        )
        + name
        + extra
    )


def _zip64_end(count: int, size: int, start: int) -> bytes:
    record = struct.pack(
        "<4sQ2H2I4Q",
        b"PK\x06\x06",
        44,
        _MADE_ON_UNIX | 45,
        45,
        0,
        0,
        count,
        count,
        size,
        start,
    )
    return record + struct.pack("<4sIQI", b"PK\x06\x07", 0, start + size, 1)


def _padding(at: int) -> bytes:
    """An extra field that ends on the alignment; its own header needs four bytes."""
    gap = -at % ALIGNMENT
    if 0 < gap < 4:
        gap += ALIGNMENT
    return struct.pack("<2H", _PADDING_ID, gap - 4) + bytes(gap - 4) if gap else b""

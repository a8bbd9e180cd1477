"""
The frame of an artifact: what its manifest says must lie around and in its members.

A manifest lists every member with size, CRC and SHA-256, so the zip headers follow from it and
are compared, not parsed.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from ..dialects.errors import IntegrityError
from .manifest import Manifest, Member
from .zip_layout import Placed, directory, local_header, place

MANIFEST = "manifest.json"
_CHUNK = 1 << 20


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Digest(NamedTuple):
    sha256: str
    crc32: int


def digest(file: HasFileno, offset: int, size: int) -> Digest:
    """
    Sums over part of a file, read in chunks.

    Reading keeps the resident size small where walking a mapping would count every page of it.
    """
    sha256, crc32 = hashlib.sha256(), 0
    end = offset + size
    while offset < end:
        chunk = os.pread(file.fileno(), min(_CHUNK, end - offset), offset)
        if not chunk:
            break
        sha256.update(chunk)
        crc32 = zlib.crc32(chunk, crc32)
        offset += len(chunk)
    return Digest(sha256.hexdigest(), crc32)


def whole(members: Sequence[Member], manifest: bytes) -> list[Placed]:
    """All members of the file in order, the manifest last."""
    listed = [(member.name, member.size, member.crc32) for member in members]
    return list(place([*listed, (MANIFEST, len(manifest), zlib.crc32(manifest))]))


def check_frame(
    path: Path, file: BinaryIO, manifest: Manifest, manifest_bytes: bytes
) -> dict[str, Placed]:
    """Compare all bytes outside the members with what the manifest says they must be."""
    try:
        members = whole(manifest.members, manifest_bytes)
        tail = directory(members)
        frame = [(member.header, local_header(member)) for member in members]
    except (ValueError, struct.error) as error:
        raise damaged(path, f"the manifest lists impossible members: {error}") from error
    frame.append((members[-1].end, tail))
    if len({member.name for member in members}) != len(members):
        raise damaged(path, "the manifest lists a member twice")
    if os.fstat(file.fileno()).st_size != members[-1].end + len(tail):
        raise damaged(path, "the file is longer or shorter than its manifest says")
    if any(os.pread(file.fileno(), len(data), offset) != data for offset, data in frame):
        raise damaged(path, "the archive's headers are not the ones that qcc writes")
    return {member.name: member for member in members}


def damaged(path: Path, why: str) -> IntegrityError:
    return IntegrityError(
        "artifact-damaged",
        f"'{path.name}' is damaged or was changed after qcc wrote it",
        where=str(path),
        why=why,
        next_step="compile the model again, or copy the artifact again",
    )

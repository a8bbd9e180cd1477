"""The fixed C of this target: where it is, and a digest of it for cache keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
DEVICE = HERE / "device"
RV32 = HERE / "rv32"
NATIVE = HERE / "native"
HOST = HERE / "host"


@cache
def folder_digest(folder: Path) -> str:
    """Of all C files of a folder: a build from others must not be found again."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix != ".py"):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def digest_of(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

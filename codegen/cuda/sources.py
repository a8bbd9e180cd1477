"""The fixed C++ of this target: where it is, and a digest of it for cache keys."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

DEVICE = Path(__file__).parent / "device"
EMULATOR = Path(__file__).parent / "emulator"


@cache
def header_digest() -> str:
    """Of all headers, the emulator's included: a build from others must not be found again."""
    digest = hashlib.sha256()
    for path in sorted([*DEVICE.glob("*.cuh"), *EMULATOR.glob("*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()

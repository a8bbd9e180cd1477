"""The measurements that come with qcc, in shipped.json beside this file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from .document import decode_document
from .store import Collection

NAME = "shipped"


@cache
def shipped() -> Collection:
    """Measured by qcc's developers on the devices that its tasks name."""
    file = files(__package__ or "") / "shipped.json"
    return decode_document(file.read_bytes(), str(file))

"""
The measurements that come with qcc, beside this file: the best of tasks in shipped.json, and in
trials.json.gz all trials of some, good and bad, for searches to learn from.
"""

from __future__ import annotations

import gzip
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


@cache
def shipped_trials() -> Collection:
    """Likewise; no compilation takes a schedule from these."""
    file = files(__package__ or "") / "trials.json.gz"
    return decode_document(gzip.decompress(file.read_bytes()), str(file))

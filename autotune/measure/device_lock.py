"""A device is measured by one tuner at a time: a lock on a file, which ends with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DeviceLock:
    """Tuners that hold locks of the same path take turns; those of different ones do not wait."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.waited = 0
        """How often another tuner had it."""

    @contextmanager
    def held(self) -> Iterator[None]:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.waited += 1
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

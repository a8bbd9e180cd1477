"""
The standard streams as a command finds them: closed, full, or in an encoding that lacks a letter.

Nothing of that may turn a finished compilation into a crash, nor let a message be written into an
artifact: a descriptor below 3 that is closed is the first that the next opened file would get.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO


def standard_streams() -> tuple[TextIO, TextIO]:
    """The process's stdout and stderr, made safe to write any text to."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return sys.stdout, sys.stderr


def silence(stream: TextIO) -> None:
    """Python flushes its streams at exit; give a broken one somewhere to flush to."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


class Log(io.TextIOBase):
    """
    A stream for remarks: those that cannot be written, as on a full disk, are dropped.

    A pipe without a reader still ends the command, as it does everywhere.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            raise
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError:
            with suppress(OSError, ValueError):
                silence(self._stream)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._stream.encoding


def _nowhere() -> TextIO:
    return open(os.devnull, "w")

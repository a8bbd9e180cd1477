"""
What a tuner and its workers say to each other: JSON records, each followed by bytes.

A frame is one line of JSON, then as many bytes as its `sizes` add up to: built candidates. What
comes from a worker is data, nothing in it is executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import msgspec

from ...dialects.errors import IntegrityError, QccError, ResourceError, UnsupportedError, UsageError
from ...dialects.knobs import Value
from ..measurement import Measurement
from ..task import Task
from .sampling import Sampling


class Build(msgspec.Struct, frozen=True, tag=True):
    task: Task
    values: dict[str, Value]


class Prepare(msgspec.Struct, frozen=True, tag=True):
    task: Task


class Measure(msgspec.Struct, frozen=True, tag=True):
    """Check and time the candidate that follows."""

    task: Task
    values: dict[str, Value]
    sampling: Sampling


class Compare(msgspec.Struct, frozen=True, tag=True):
    """Check the candidates that follow, then run them in turns: `rounds` of them."""

    task: Task
    configs: list[dict[str, Value]]
    rounds: int


class Built(msgspec.Struct, frozen=True, tag=True):
    seconds: float


class Measured(msgspec.Struct, frozen=True, tag=True):
    """Of one request; a failure to build as well. With `lost` the worker ends after it."""

    measurement: Measurement
    lost: bool = False


class Compared(msgspec.Struct, frozen=True, tag=True):
    """
    `seconds` of each candidate in each round, [rounds][candidates], unless one `failed`; `lost` as
    of Measured.
    """

    seconds: list[list[float]] = []
    failed: Measurement | None = None
    why: str = ""
    lost: bool = False


class Done(msgspec.Struct, frozen=True, tag=True):
    """Ready, or prepared."""


class Broken(msgspec.Struct, frozen=True, tag=True):
    """No candidate is at fault: the fields of a QccError."""

    exit_code: int
    code: str
    what: str
    where: str = ""
    why: str = ""
    next_step: str = ""

    def error(self) -> QccError:
        kinds = (UsageError, UnsupportedError, ResourceError, IntegrityError)
        kind = next((kind for kind in kinds if kind.exit_code == self.exit_code), QccError)
        return kind(self.code, self.what, where=self.where, why=self.why, next_step=self.next_step)

    @classmethod
    def of(cls, error: QccError) -> Broken:
        return cls(error.exit_code, error.code, error.what, error.where, error.why, error.next_step)


Request = Build | Prepare | Measure | Compare
Reply = Built | Measured | Compared | Done | Broken


class _Frame(msgspec.Struct, frozen=True):
    message: msgspec.Raw
    sizes: list[int] = []


def framed(message: Request | Reply, attached: Sequence[bytes] = ()) -> bytes:
    frame = _Frame(msgspec.Raw(msgspec.json.encode(message)), [len(data) for data in attached])
    return b"".join([msgspec.json.encode(frame), b"\n", *attached])


def request_of(line: bytes) -> tuple[Request, list[int]]:
    """The request of a frame's line, and the sizes of what follows it."""
    frame = msgspec.json.decode(line, type=_Frame)
    return msgspec.json.decode(frame.message, type=Request), frame.sizes


def reply_of(line: bytes) -> tuple[Reply, list[int]]:
    frame = msgspec.json.decode(line, type=_Frame)
    return msgspec.json.decode(frame.message, type=Reply), frame.sizes


def attached(stream: BinaryIO, sizes: Sequence[int]) -> list[bytes]:
    """EOFError where the stream ends before."""
    parts = [stream.read(size) for size in sizes]
    if [len(part) for part in parts] != list(sizes):
        raise EOFError("the other process is gone")
    return parts

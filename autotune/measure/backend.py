"""
What builds and runs the candidates of one kind of kernel; workers make one from its name.

A backend is made anew in each worker process, so it is named, "package.module:factory" with
options of JSON, and never pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import msgspec

from ...dialects.knobs import Value
from ..task import Task

Values = Mapping[str, Value]


class Refused(Exception):
    """The verifier of the kernel does not accept these values."""


class DeviceLost(Exception):
    """A candidate left the device so that nothing works in this process any more."""


@dataclass(frozen=True, slots=True)
class Run:
    """`disturbed`: the device did other work meanwhile, as far as can be seen."""

    seconds: float
    disturbed: bool = False


class Kernel(Protocol):
    """A built candidate with its inputs."""

    def check(self) -> str:
        """Run it once: how its results differ from the reference; empty if they do not."""
        ...

    def run(self) -> Run: ...

    def close(self) -> None: ...


@runtime_checkable
class Counted(Protocol):
    """A kernel whose compiler told what it takes (Measurement.resources)."""

    resources: dict[str, int]


class Backend(Protocol):
    """
    Any exception from `build` is a failure to compile (Refused: constraints), any from a kernel
    one of running it; after a DeviceLost the process that ran it is replaced.
    """

    modelled: bool
    """Times come from a model, which gives the same each time."""

    def prepare(self, task: Task) -> None:
        """Make what all candidates of a task share: data, and what they should compute."""
        ...

    def build(self, task: Task, values: Values) -> bytes: ...

    def load(self, task: Task, built: bytes) -> Kernel:
        """In another process than `build`, for a task that was prepared."""
        ...


class BackendName(msgspec.Struct, frozen=True):
    """
    `factory` as "package.module:function", called with `options`. With `exclusive`, building would
    disturb a measurement: both use the same processor.
    """

    factory: str
    options: dict[str, Any] = {}
    exclusive: bool = True


def make_backend(name: BackendName) -> Backend:
    module, _, function = name.factory.partition(":")
    return getattr(import_module(module), function)(**name.options)

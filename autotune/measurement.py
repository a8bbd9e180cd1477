"""What trying one config of a task gave, as it is stored and exchanged."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cached_property
from hashlib import sha256
from math import isfinite
from socket import gethostname

import msgspec

from ..dialects.errors import UsageError
from ..dialects.knobs import Space, Value
from .task import Task, canonical
from .trials import Trial

FAILURES = ("compile", "runtime", "correctness", "timeout", "constraints")
DETAIL_LIMIT = 2000
_FLAGS = ("contended", "checked", "modelled")
_LATEST = 1e11  # seconds since 1970 that a calendar has


class Measurement(msgspec.Struct, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """
    `values` by knob. `seconds` is the median of `samples` runs, None where the config failed; then
    `failure` is one of FAILURES and `detail` what the compiler, the check or the device said.

    `spread` is the interquartile range of the samples, as a fraction of their median. `contended`:
    other work was seen on the device. `checked`: the results agreed with the reference before the
    clock started. `modelled`: a timing model gave the seconds and no clock. `cost` is the seconds
    that trying took, by stage (the words of T4 results: compilation, benchmark, validation,
    framework, search_algorithm). `resources` is what the compiler told of the kernel, left out
    where it tells nothing: `registers` and `spill_bytes` of a thread. `when` is Unix time.

    Raises UsageError for numbers that no measurement can give: a time must be above zero.
    """

    values: dict[str, Value]
    seconds: float | None = None
    failure: str = ""
    detail: str = ""
    spread: float = 0.0
    samples: int = 0
    contended: bool = False
    checked: bool = False
    modelled: bool = False
    cost: dict[str, float] = {}
    resources: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    strategy: str = ""
    seed: int = 0
    when: float = 0.0
    host: str = ""

    def __post_init__(self) -> None:
        wrong = _wrong(self)
        if wrong:
            raise UsageError(
                "measurement-invalid",
                f"no measurement: {wrong}",
                where=str(self.values),
                next_step="give the seconds of a config that worked, or how it failed",
            )
        for name, plain in _plain(self).items():
            msgspec.structs.force_setattr(self, name, plain)

    @property
    def worked(self) -> bool:
        return self.seconds is not None

    @cached_property
    def json(self) -> bytes:
        """The one spelling of this measurement."""
        return msgspec.json.encode(self, order="sorted")

    def hash(self, task: Task) -> str:
        """32 hexadecimal digits that tell this measurement of `task` from all others."""
        return sha256(task.json + self.json).hexdigest()[:32]

    def trial(self, space: Space) -> Trial:
        """Raises UsageError where the values are no config of `space`."""
        return Trial(space.config(self.values), self.seconds, self.failure)


def made_here(measurement: Measurement) -> Measurement:
    """With this machine's name and the time, unless another machine has signed it."""
    if measurement.host:
        return measurement
    return msgspec.structs.replace(measurement, when=time.time(), host=gethostname())


def trials_of(space: Space, measurements: Iterable[Measurement]) -> list[Trial]:
    """Those that are configs of `space`: a space may have had other values when it was measured."""
    knobs = {knob.name: set(knob.values) for knob in space.knobs}
    return [
        each.trial(space)
        for each in measurements
        if all(name in each.values and each.values[name] in knobs[name] for name in knobs)
    ]


def _plain(measurement: Measurement) -> dict[str, object]:
    """Fields as JSON gives them back; NumPy numbers, or int for float, are spelled otherwise."""
    seconds = measurement.seconds
    detail = measurement.detail[:DETAIL_LIMIT].encode("utf-8", "backslashreplace").decode()
    return {
        "values": canonical(measurement.values, "values"),
        "seconds": None if seconds is None else float(seconds),
        "spread": float(measurement.spread),
        "cost": {name: float(cost) for name, cost in sorted(measurement.cost.items())},
        "when": float(measurement.when),
        "samples": int(measurement.samples),
        "seed": int(measurement.seed),
        **{name: bool(getattr(measurement, name)) for name in _FLAGS},
        "detail": detail[:DETAIL_LIMIT],
    }


def _wrong(measurement: Measurement) -> str:
    """What no measurement can have; empty for a good one."""
    seconds, failure = measurement.seconds, measurement.failure
    if (seconds is None) != bool(failure):
        return "it needs either seconds or a failure"
    if failure and failure not in FAILURES:
        return f"failure {failure!r} is none of {', '.join(FAILURES)}"
    if seconds is not None and not 0 < seconds < float("inf"):
        return f"{seconds} seconds"
    numbers = {"spread": measurement.spread, "samples": measurement.samples, **measurement.cost}
    for name, value in numbers.items():
        if not (isfinite(value) and value >= 0):
            return f"{name} is {value}"
    return "" if 0 <= measurement.when < _LATEST else f"when is {measurement.when}"

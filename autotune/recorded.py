"""
Spaces whose configs were all measured before: read from files of Kernel Tuner, replayed.

Files are JSON, or JSON in gzip, in the cache format of Kernel Tuner 1.x or in T4, as the FAIR
benchmark hub (DOI 10.5281/zenodo.15364124) publishes both. All of a file is data; nothing in it is
evaluated.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..dialects.errors import IntegrityError
from ..dialects.knobs import Configs, Knob, Space
from .interchange.kernel_tuner_cache import NEVER, recorded_space
from .interchange.t4 import decode_t4
from .measurement import Measurement
from .task import Task
from .trials import Trial

COSTS = ("compile_time", "benchmark_time", "verification_time", "framework_time", "strategy_time")
MILLI = 1e-3


@dataclass(frozen=True, eq=False)
class Recording:
    """
    A measured space: `seconds` [members] of each legal config in the order of `space.members`,
    nan where it failed; `cost` [members], the seconds that trying it took.
    """

    space: Space
    device: str
    seconds: NDArray[np.float64]
    cost: NDArray[np.float64]

    @property
    def configs(self) -> Configs:
        """All of them, [members, knobs]."""
        members = self.space.members
        return np.zeros((0, len(self.space.knobs)), np.int64) if members is None else members

    @property
    def optimum(self) -> float:
        return float(np.nanmin(self.seconds))

    @cached_property
    def _places(self) -> dict[int, int]:
        keys = self.space.keys(self.configs)
        return {int(key): place for place, key in enumerate(keys)}

    def measure(self, configs: Configs) -> list[Trial]:
        """What was recorded of configs [count, knobs], all of them members."""
        places = [self._places[int(key)] for key in self.space.keys(configs)]
        return [
            Trial(
                tuple(config.tolist()),
                None if np.isnan(self.seconds[place]) else float(self.seconds[place]),
                "runtime" if np.isnan(self.seconds[place]) else "",
            )
            for config, place in zip(configs, places, strict=True)
        ]


def read_recording(path: Path) -> Recording:
    """Raises IntegrityError where the file is no such recording."""
    try:
        packed = path.read_bytes()
        text = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
        name, data = path.name.split(".")[0], json.loads(text)
        if "results" in data:
            entries = decode_t4(text, str(path), Task(name, {}))
            return recording_of(name, [entry.measurement for entry in entries])
        return _recording(name, data)
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:
        raise IntegrityError(
            "recording-unreadable",
            "not a recording of a tuning space",
            where=str(path),
            why=f"{type(error).__name__}: {error}",
            next_step="give a cache file of Kernel Tuner or T4 results (JSON, or JSON in gzip)",
        ) from error


def recording_of(name: str, measurements: Sequence[Measurement], device: str = "") -> Recording:
    """What was measured, the latest of each config; without knobs that have only one value."""
    seen = {knob: {each.values[knob] for each in measurements} for knob in measurements[0].values}
    varied = [knob for knob, values in seen.items() if len(values) > 1]
    plain = [
        msgspec.structs.replace(each, values={knob: each.values[knob] for knob in varied})
        for each in measurements
    ]
    space = recorded_space(Task(name, {}), plain)
    latest = {space.config(each.values): each for each in plain}
    rows = [] if space.members is None else [latest[tuple(row)] for row in space.members.tolist()]
    seconds = np.array([np.nan if each.seconds is None else each.seconds for each in rows])
    return Recording(space, device, seconds, np.array([sum(each.cost.values()) for each in rows]))


def _recording(name: str, data: dict[str, Any]) -> Recording:
    values = {key: tuple(data["tune_params"][key]) for key in data["tune_params_keys"]}
    knobs = tuple(Knob(key, some) for key, some in values.items() if len(some) > 1)
    records = list(data["cache"].values())
    members = np.array(
        [[knob.values.index(record[knob.name]) for knob in knobs] for record in records], np.int64
    )
    seconds = np.array([_time(record["time"]) for record in records]) * MILLI
    cost = np.array([sum(record.get(key) or 0.0 for key in COSTS) for record in records]) * MILLI
    return Recording(Space(name, knobs, members=members), data["device_name"], seconds, cost)


def _time(value: object) -> float:
    """Milliseconds; failed configs have a text instead, or a time without end."""
    if isinstance(value, int | float) and 0 < value < NEVER:
        return float(value)
    return float("nan")

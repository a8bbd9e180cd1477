"""
What can be tuned of an integer product on DPUs: the fields of its schedule, {p, residency, groups,
splits, tasklets} and how tables are made and shared.

The verifier is asked of each config (schedule.py), once what is cheap to see has been sorted out:
fields that a method does not read must have their default, so that no schedule is there twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ..errors import QccError
from ..knobs import Columns, Constraint, Knob, Space, Value
from .cost import cost_of
from .device import Device
from .estimate import estimated_cycles
from .schedule import METHODS, Problem, Schedule, Share, illegal, mram_need, wram_need

KERNEL, ESTIMATE = "upmem.linear", "estimated_s"
FIELDS = tuple(each.name for each in fields(Schedule))
VALUES: dict[str, tuple[Value, ...]] = {
    "method": METHODS,
    "p": tuple(range(1, 11)),
    "groups": (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192),
    "residency": ("stream", "resident"),
    "shared": (0, 1),
    "words": (1, 2, 4, 8),
    "row_block": (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    "tasklets": (8, 10, 11, 12, 14, 16, 18, 20, 24),
    "k_parts": (1, 2, 4, 8),
    "lane_bits": (16, 8),
}
UNREAD = {
    "multiply": ("p", "residency", "shared", "lane_bits"),
    "packed": ("words", "lane_bits"),
    "canonical": ("words", "lane_bits"),
    "fly": ("residency", "words", "lane_bits"),
    "lanes": ("residency",),
}
"""Fields that have their default in schedules of a method."""
DEFAULTS = {"p": 1, "residency": "stream", "shared": 0, "words": 1, "lane_bits": 16}


def linear_space(problem: Problem, device: Device, include: Sequence[Schedule] = ()) -> Space:
    """The schedules of a problem, the values of those of `include` among them."""
    seen = _Seen(problem, device)
    rows = [values_of(each) for each in include]
    knobs = tuple(
        Knob(name, _ordered([*_values(name, problem, device), *(row[name] for row in rows)]))
        for name in FIELDS
    )
    return Space(_name(problem, device), knobs, _rules(device, seen), derive=seen.numbers)


def listed_space(problem: Problem, device: Device, schedules: Sequence[Schedule]) -> Space:
    """The legal ones of some schedules, and nothing else."""
    seen = _Seen(problem, device)
    rows = [values_of(each) for each in schedules]
    knobs = tuple(Knob(name, _ordered([row[name] for row in rows])) for name in FIELDS)
    space = Space(_name(problem, device), knobs)
    configs = np.array([space.config(row) for row in rows], np.int64)
    columns = space.columns(configs)
    legal = seen.verified(*(columns[name] for name in FIELDS))
    return Space(space.name, knobs, members=configs[legal], derive=seen.numbers)


def _name(problem: Problem, device: Device) -> str:
    return f"{KERNEL} {problem.rows}x{problem.k} tokens={problem.tokens} {device.name}"


def _ordered(values: Sequence[Value]) -> tuple[Value, ...]:
    """Each once; numbers by size, texts as they come."""
    once = dict.fromkeys(values)
    return tuple(once) if isinstance(values[0], str) else tuple(sorted(once))


def values_of(schedule: Schedule) -> dict[str, Value]:
    """A schedule as values of knobs."""
    return {
        name: int(value) if isinstance(value, bool) else value
        for name, value in asdict(schedule).items()
    }


def schedule_of(values: Mapping[str, Value]) -> Schedule:
    """Undo `values_of`."""
    plain = {
        name: str(value) if isinstance(value, str) else int(value) for name, value in values.items()
    }
    return Schedule(**{**plain, "shared": bool(plain["shared"])})  # pyright: ignore[reportArgumentType]


def _values(name: str, problem: Problem, device: Device) -> tuple[Value, ...]:
    if name in ("row_parts", "token_parts"):
        size = problem.rows if name == "row_parts" else problem.tokens
        return _parts(size, device.dpus)
    if name == "tasklets":
        return tuple(each for each in VALUES[name] if int(each) <= device.most_tasklets)
    return VALUES[name]


def _parts(size: int, dpus: int) -> tuple[int, ...]:
    """Numbers of DPUs that may share an axis: those that leave whole pieces of different sizes."""
    pieces = {ceil(size / each) for each in (*range(1, 9), *_geometric(size))}
    counts = {ceil(size / piece) for piece in pieces} | {min(dpus, size)}
    return tuple(sorted(each for each in counts if each <= dpus))


def _geometric(size: int) -> set[int]:
    """Powers of two, and three quarters of them, below `size`."""
    powers = {1 << bit for bit in range(2, size.bit_length() + 1)}
    return {each for power in powers for each in (power, 3 * power // 4) if each <= size}


def _rules(device: Device, seen: _Seen) -> tuple[Constraint, ...]:
    plain = ("method", *DEFAULTS)
    return (
        Constraint(plain, _reads, "fields that the method does not read have their default"),
        Constraint(
            ("residency", "shared"),
            lambda residency, shared: ~((residency == "resident") & (shared == 1)),
            "resident tables are everybody's already",
        ),
        Constraint(
            ("row_parts", "token_parts", "k_parts"),
            lambda rows, tokens, k: rows * tokens * k <= device.dpus,
            f"at most {device.dpus} DPUs",
        ),
        Constraint(FIELDS, seen.verified, "the verifier of schedules", seen.told),
    )


def _reads(method: NDArray, *values: NDArray) -> NDArray[np.bool_]:
    good = np.ones(np.shape(method), bool)
    for (name, default), column in zip(DEFAULTS.items(), values, strict=True):
        unread = np.isin(method, [each for each, names in UNREAD.items() if name in names])
        good &= ~unread | (column == default)
    return good


@dataclass(frozen=True)
class _Seen:
    """The verifier's answers and the numbers of schedules, each asked for once."""

    problem: Problem
    device: Device
    legal: dict[tuple[Value, ...], bool] = field(default_factory=dict)
    derived: dict[tuple[Value, ...], tuple[float, ...]] = field(default_factory=dict)

    def verified(self, *values: NDArray) -> NDArray[np.bool_]:
        """Of values in the order of FIELDS; False, unasked, where a cheap rule is broken."""
        columns = dict(zip(FIELDS, map(np.atleast_1d, values), strict=True))
        dpus = columns["row_parts"] * columns["token_parts"] * columns["k_parts"]
        cheap = _reads(columns["method"], *(columns[name] for name in DEFAULTS))
        cheap &= dpus <= self.device.dpus
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        found = [bool(ask) and self._legal(row) for ask, row in zip(cheap, rows, strict=True)]
        return np.array(found, bool)

    def told(self, *values: Value) -> str:
        return "; ".join(self._reasons(values))

    def numbers(self, columns: Columns) -> dict[str, NDArray]:
        """
        | number | of | unit |
        |---|---|---|
        | `estimated_s` | a call by the estimate that needs no kernel: DPUs, launch, transfers | s |
        | `wram` | buffers of a kernel | bytes |
        | `mram` | arrays of a DPU | bytes |
        | `transferred` | to and from all DPUs in a call, 1 more | bytes |
        | `dpus` | in use | count |
        """
        rows = zip(*(columns[name].tolist() for name in FIELDS), strict=True)
        table = np.array([self._numbers(row) for row in rows])
        names = (ESTIMATE, "wram", "mram", "transferred", "dpus")
        return dict(zip(names, table.reshape(-1, len(names)).T, strict=True))

    def _share(self, row: tuple[Value, ...]) -> Share:
        return Share(self.problem, schedule_of(dict(zip(FIELDS, row, strict=True))))

    def _legal(self, row: tuple[Value, ...]) -> bool:
        if row not in self.legal:
            self.legal[row] = next(self._reasons(row), None) is None
        return self.legal[row]

    def _reasons(self, row: tuple[Value, ...]) -> Iterator[str]:
        try:
            yield from illegal(self._share(row), self.device)
        except QccError as error:  # codes of a group that no table can have
            yield error.what

    def _numbers(self, row: tuple[Value, ...]) -> tuple[float, ...]:
        if row not in self.derived:
            share = self._share(row)
            cost = cost_of(share, self.device, estimated_cycles(share, self.device))
            moved = 1 + cost.bytes_in + cost.bytes_out
            self.derived[row] = (
                cost.total_ms / 1e3, wram_need(share), mram_need(share), moved,
                share.schedule.dpus,
            )  # fmt: skip
        return self.derived[row]

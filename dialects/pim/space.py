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
from ..knobs import Columns, Constraint, Knob, Space, Value, Verifier
from .cost import cost_of
from .device import Device
from .estimate import estimated_cycles
from .footprint import mram_need, wram_need
from .legality import illegal
from .schedule import METHODS, Problem, Schedule, Share

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
    seen = _Numbers(problem, device)
    rows = [values_of(each) for each in include]
    knobs = tuple(
        Knob(name, _ordered([*_values(name, problem, device), *(row[name] for row in rows)]))
        for name in FIELDS
    )
    return Space(_name(problem, device), knobs, _rules(problem, device), derive=seen)


def listed_space(problem: Problem, device: Device, schedules: Sequence[Schedule]) -> Space:
    """The legal ones of some schedules, and nothing else."""
    verifier = _verifier(problem, device)
    rows = [values_of(each) for each in schedules]
    knobs = tuple(Knob(name, _ordered([row[name] for row in rows])) for name in FIELDS)
    space = Space(_name(problem, device), knobs)
    configs = np.array([space.config(row) for row in rows], np.int64)
    columns = space.columns(configs)
    legal = verifier.holds(*(columns[name] for name in FIELDS))
    return Space(space.name, knobs, members=configs[legal], derive=_Numbers(problem, device))


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


def _rules(problem: Problem, device: Device) -> tuple[Constraint, ...]:
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
        _verifier(problem, device).rule,
    )


def _reads(method: NDArray, *values: NDArray) -> NDArray[np.bool_]:
    good = np.ones(np.shape(method), bool)
    for (name, default), column in zip(DEFAULTS.items(), values, strict=True):
        unread = np.isin(method, [each for each, names in UNREAD.items() if name in names])
        good &= ~unread | (column == default)
    return good


def _verifier(problem: Problem, device: Device) -> Verifier:
    def reasons(values: Mapping[str, Value]) -> Iterator[str]:
        try:
            yield from illegal(Share(problem, schedule_of(values)), device)
        except QccError as error:  # codes of a group that no table can have
            yield error.what

    def cheap(columns: Columns) -> NDArray[np.bool_]:
        dpus = columns["row_parts"] * columns["token_parts"] * columns["k_parts"]
        reads = _reads(columns["method"], *(columns[name] for name in DEFAULTS))
        return reads & (dpus <= device.dpus)

    return Verifier(FIELDS, reasons, cheap)


@dataclass(frozen=True)
class _Numbers:
    """
    | number | of | unit |
    |---|---|---|
    | `estimated_s` | a call by the estimate that needs no kernel: DPUs, launch, transfers | s |
    | `wram` | buffers of a kernel | bytes |
    | `mram` | arrays of a DPU | bytes |
    | `transferred` | to and from all DPUs in a call, 1 more | bytes |
    | `dpus` | in use | count |

    Those of a schedule are found once.
    """

    problem: Problem
    device: Device
    found: dict[tuple[Value, ...], tuple[float, ...]] = field(default_factory=dict)

    def __call__(self, columns: Columns) -> dict[str, NDArray]:
        rows = zip(*(columns[name].tolist() for name in FIELDS), strict=True)
        table = np.array([self._of(row) for row in rows])
        names = (ESTIMATE, "wram", "mram", "transferred", "dpus")
        return dict(zip(names, table.reshape(-1, len(names)).T, strict=True))

    def _of(self, row: tuple[Value, ...]) -> tuple[float, ...]:
        if row not in self.found:
            schedule = schedule_of(dict(zip(FIELDS, row, strict=True)))
            share = Share(self.problem, schedule)
            cost = cost_of(share, self.device, estimated_cycles(share, self.device))
            moved = 1 + cost.bytes_in + cost.bytes_out
            sizes = wram_need(share), mram_need(share), moved, schedule.dpus
            self.found[row] = (cost.total_ms / 1e3, *sizes)
        return self.found[row]

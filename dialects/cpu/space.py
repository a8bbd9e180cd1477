"""
What can be tuned of a linear layer with many rows of x on the CPU: the fields of its schedule.

The rules are those that refuse a schedule when it is built. A field that means nothing for a layer
has one value: `depth` of integers, `keep` of fp32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from ..formats.panels import PANEL_ROWS
from ..knobs import Columns, Knob, Space, Value
from .default_schedule import default_schedule
from .schedule import (
    MOST_PANELS,
    MOST_ROWS,
    LinearProblem,
    LinearSchedule,
    registers,
    rules,
    unit_bytes,
)

KERNEL = "cpu.linear"
TASK_ROWS = (
    4, 6, 8, 12, 16, 18, 20, 24, 28, 30, 32, 36, 40, 48, 56, 60, 64, 72, 80, 84, 96, 112, 120, 128,
    144, 160, 168, 192, 224, 240, 256, 288, 336, 384, 480, 512, 768, 1024,
)  # fmt: skip
"""Multiples of many numbers of rows, so that most tiles divide some of them."""
TASK_PANELS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
DEPTHS = 8


def linear_space(problem: LinearProblem, m: int, features: frozenset[str]) -> Space:
    """The schedules of a layer on `m` rows of x, on a processor with these instruction sets."""
    default, even = (default_schedule(problem, features, rows) for rows in (None, m))
    knobs = (
        Knob("rows", tuple(range(1, MOST_ROWS + 1))),
        Knob("panels", tuple(range(1, MOST_PANELS + 1))),
        Knob("task_rows", _up_to(m, TASK_ROWS, default.task_rows, even.task_rows)),
        Knob("task_panels", _up_to(problem.panels, TASK_PANELS, default.task_panels)),
        Knob("depth", (default.depth,) if problem.integers else _depths(problem, default.depth)),
        Knob("keep", (0, 1) if problem.integers else (0,)),
    )
    return Space(
        f"{KERNEL} {problem.spelling} {problem.n}x{problem.k} m={m}",
        knobs,
        rules(problem, features),
        derive=lambda columns: _numbers(problem, m, columns),
    )


def values_of(schedule: LinearSchedule) -> dict[str, Value]:
    """A schedule as values of knobs."""
    return {name: int(value) for name, value in asdict(schedule).items()}


def schedule_of(values: Mapping[str, Value]) -> LinearSchedule:
    """Undo `values_of`."""
    numbers = {name: int(value) for name, value in values.items()}
    return LinearSchedule(**{**numbers, "keep": bool(numbers["keep"])})


def _up_to(size: int, values: tuple[int, ...], *defaults: int) -> tuple[int, ...]:
    """Those below `size`, the first that covers it, as larger ones do the same, and defaults."""
    covering = [value for value in values if value >= size][:1]
    return tuple(sorted({*(value for value in values if value < size), *covering, *defaults}))


def _depths(problem: LinearProblem, default: int) -> tuple[int, ...]:
    """Whole granules in powers of two up to all of k, at least one register of them."""
    return tuple(sorted({default, *_powers(problem)}))


def _powers(problem: LinearProblem) -> Iterator[int]:
    depth = problem.granule * max(1, PANEL_ROWS // problem.granule)
    for _ in range(DEPTHS + problem.k.bit_length()):
        yield depth
        if depth >= problem.k:
            return
        depth *= 2


def _numbers(problem: LinearProblem, m: int, columns: Columns) -> dict[str, NDArray]:
    """
    | number | of | unit |
    |---|---|---|
    | `registers` | a tile | registers of sixteen lanes |
    | `scratch` | what a unit keeps decoded, 1 more | bytes |
    | `units` | pieces of work that threads share | count |
    | `products_per_load` | products for each register or broadcast loaded | ratio |
    | `waste` | computed over wanted results, for tiles beyond the edges | ratio |
    | `decoded` | decodings of each weight | count |
    """
    rows, panels = columns["rows"], columns["panels"]
    task_rows, task_panels = columns["task_rows"], columns["task_panels"]
    row_tasks, panel_tasks = _ceil(m, task_rows), _ceil(problem.panels, task_panels)
    last = np.minimum(task_rows, m)
    return {
        "registers": np.asarray(registers(problem, rows, panels)),
        "scratch": 1 + unit_bytes(problem, panels, task_panels, columns["depth"], columns["keep"]),
        "units": row_tasks * panel_tasks,
        "products_per_load": rows * panels / (rows + panels),
        "waste": _ceil(last, rows) * rows / last,
        "decoded": np.where(columns["keep"] | (not problem.integers), row_tasks, _ceil(m, rows)),
    }


def _ceil(total: NDArray | int, part: NDArray) -> NDArray:
    return -(-np.asarray(total) // part)

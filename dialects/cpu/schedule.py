"""
Schedules of linear layers with many rows of x on the CPU, and what is legal.

A unit of work, of which threads take a few at a time, is `task_rows` rows of x times `task_panels`
panels of weights, each sixteen channels. It is computed in register tiles of `rows` x `panels`.
With fp32 x, the unit's weights are decoded `depth` values of k at a time, to a scratch that all
its tiles read. With x rounded to integers, a tile goes through all of k; it makes bytes of its
panels' codes anew, or, with `keep`, the first tile of a unit leaves them for the others.

    qcc.linear %x, %w {schedule = {rows = 8, panels = 2, …}}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..bindings import ir
from ..formats import parse_spelling
from ..formats.layout import block_columns
from ..formats.panels import PANEL_ROWS, panel_unit
from ..knobs import Constraint

SCHEDULE_ATTRIBUTE = "schedule"
SCRATCH_BYTES = 512 << 10
"""On the stack of a thread; the caches that hold it are rarely larger."""
MOST_ROWS, MOST_PANELS, MOST_TASK, MOST_DEPTH = 16, 4, 4096, 1 << 20
SCRATCH_FIELDS = ("panels", "task_panels", "depth", "keep")
# Vector registers by instruction set, and how many of them hold a value of each of sixteen rows.
REGISTERS = {"avx512f": (32, 1), "": (16, 2)}
Amount = Any
"""A number, or an array of one for each schedule."""


@dataclass(frozen=True, slots=True)
class LinearProblem:
    """
    y[m, n] = x[m, k] times weights in `spelling`, for many m; "fp32" are plain weights.

    `integers` says that x is rounded to integers and multiplied as such.
    """

    n: int
    k: int
    spelling: str
    integers: bool = False

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL_ROWS)

    @property
    def operands(self) -> int:
        """Bytes that stand for an integer weight: two where each sign has a scale."""
        return 2 if self.integers and parse_spelling(self.spelling).splits_signs else 1

    @property
    def granule(self) -> int:
        """Of what `depth` is a multiple."""
        if self.spelling == "fp32":
            return PANEL_ROWS
        fmt = parse_spelling(self.spelling)
        length, blocks = block_columns(fmt.block_size, self.k)
        return length if blocks > 1 else panel_unit(fmt) or 1


@dataclass(frozen=True, slots=True)
class LinearSchedule:
    """The module tells what the numbers mean; `depth` is of fp32 x, `keep` of integers."""

    rows: int
    panels: int
    task_rows: int
    task_panels: int
    depth: int
    keep: bool = False

    def attribute(self) -> ir.DictAttr:
        """As it stands in the IR."""
        whole = ir.IntegerType.get_signless(64)
        values: dict[str, ir.Attribute] = {}
        for name, value in asdict(self).items():
            is_flag = isinstance(value, bool)
            values[name] = ir.BoolAttr.get(value) if is_flag else ir.IntegerAttr.get(whole, value)
        return ir.DictAttr.get(values)

    @staticmethod
    def of(attribute: ir.Attribute) -> LinearSchedule:
        """Undo `attribute`. ValueError where it is no schedule."""
        names = [each.name for each in fields(LinearSchedule)]
        if not isinstance(attribute, ir.DictAttr) or {a.name for a in attribute} != set(names):
            raise ValueError(f"a schedule has {', '.join(names)}, not {attribute}")
        *numbers, keep = (attribute[name] for name in names)
        rows, panels, task_rows, task_panels, depth = (ir.IntegerAttr(n).value for n in numbers)
        return LinearSchedule(rows, panels, task_rows, task_panels, depth, ir.BoolAttr(keep).value)


def rules(problem: LinearProblem, features: frozenset[str]) -> tuple[Constraint, ...]:
    """
    What is true of every schedule that can be built; first that its numbers are in their ranges.

    `illegal` asks them of one schedule, a tuner of thousands at once.
    """
    return (*_ranges(), *_relations(problem, features))


@dataclass(frozen=True, slots=True)
class ScheduledLayer:
    """
    A layer that has a kernel with a schedule: its name, empty where it has none, and what decides.

    `rows` of x, None where they are not known; `activations`, where integers meet, is the format
    that x is rounded to. `given` says that the schedule stood on the op.
    """

    name: str
    problem: LinearProblem
    rows: int | None
    activations: str
    schedule: LinearSchedule
    given: bool


def illegal(
    problem: LinearProblem, schedule: LinearSchedule, features: frozenset[str]
) -> Iterator[str]:
    """
    The reasons why this schedule cannot be built, none if it can.

    >>> problem = LinearProblem(64, 96, "int4<group=32>")
    >>> list(illegal(problem, LinearSchedule(8, 2, 192, 3, 48), frozenset({"avx512f"})))
    ['task_panels is 3, not a multiple of panels, 2', 'depth is 48, not a multiple of 32']
    """
    values = asdict(schedule)
    outside = [told for rule in _ranges() if (told := rule.broken_by(values))]
    if outside:
        yield from outside
        return
    related = _relations(problem, features)
    yield from (told for rule in related if (told := rule.broken_by(values)))


def _ranges() -> list[Constraint]:
    most = {"rows": MOST_ROWS, "panels": MOST_PANELS, "task_rows": MOST_TASK,
            "task_panels": MOST_TASK, "depth": MOST_DEPTH}  # fmt: skip
    return [_range(name, limit) for name, limit in most.items()]


def _range(name: str, most: int) -> Constraint:
    return Constraint(
        (name,),
        lambda value: (value >= 1) & (value <= most),
        f"{name} is 1 to {most}",
        lambda value: f"{name} is {value}, not 1 to {most}",
    )


def _multiple(name: str, of: str) -> Constraint:
    return Constraint(
        (name, of),
        lambda value, unit: value % unit == 0,
        f"{name} is a multiple of {of}",
        lambda value, unit: f"{name} is {value}, not a multiple of {of}, {unit}",
    )


def _relations(problem: LinearProblem, features: frozenset[str]) -> Iterator[Constraint]:
    yield _multiple("task_rows", "rows")
    yield _multiple("task_panels", "panels")
    if not problem.integers:
        granule = problem.granule
        yield Constraint(
            ("depth",),
            lambda depth: depth % granule == 0,
            f"depth is a multiple of {granule}",
            lambda depth: f"depth is {depth}, not a multiple of {granule}",
        )
        only = "keep is of integers; with fp32 x all tiles read decoded weights"
        yield Constraint(("keep",), lambda keep: np.logical_not(keep), only)
    count, wide = REGISTERS["avx512f" if "avx512f" in features else ""]
    yield Constraint(
        ("rows", "panels"),
        lambda rows, panels: wide * registers(problem, rows, panels) <= count,
        f"a tile needs at most {count} registers",
        lambda rows, panels: (
            f"a tile needs {wide * registers(problem, rows, panels)} registers, "
            f"of which there are {count}"
        ),
    )
    yield Constraint(
        SCRATCH_FIELDS,
        lambda *sizes: unit_bytes(problem, *sizes) <= SCRATCH_BYTES,
        f"a unit needs at most {SCRATCH_BYTES} bytes of scratch",
        lambda *sizes: (
            f"a unit needs {unit_bytes(problem, *sizes)} bytes of scratch, "
            f"of which there are {SCRATCH_BYTES}"
        ),
    )


def registers(problem: LinearProblem, rows: Amount, panels: Amount) -> Amount:
    """Of sixteen lanes, in the innermost loop: sums, weights, and what x is broadcast to."""
    return (rows + 1) * panels * problem.operands + 1


def scratch_bytes(problem: LinearProblem, schedule: LinearSchedule) -> int:
    """What a unit of work keeps decoded."""
    return int(unit_bytes(problem, *(getattr(schedule, name) for name in SCRATCH_FIELDS)))


def unit_bytes(
    problem: LinearProblem, panels: Amount, task_panels: Amount, depth: Amount, keep: Amount
) -> Amount:
    """`scratch_bytes` of the numbers of one schedule, or of arrays of them."""
    if not problem.integers:
        return 4 * PANEL_ROWS * task_panels * np.minimum(depth, problem.k)
    words = -(-problem.k // 4)
    return 4 * PANEL_ROWS * panels * problem.operands * words * keep

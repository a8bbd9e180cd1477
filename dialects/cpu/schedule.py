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

from ..bindings import ir
from ..formats import parse_spelling
from ..formats.layout import block_columns
from ..formats.panels import PANEL_ROWS, panel_unit

SCHEDULE_ATTRIBUTE = "schedule"
SCRATCH_BYTES = 512 << 10
"""On the stack of a thread; the caches that hold it are rarely larger."""
MOST_ROWS, MOST_PANELS, MOST_TASK = 16, 4, 4096
# Vector registers by instruction set, and how many of them hold a value of each of sixteen rows.
REGISTERS = {"avx512f": (32, 1), "": (16, 2)}


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


def illegal(
    problem: LinearProblem, schedule: LinearSchedule, features: frozenset[str]
) -> Iterator[str]:
    """
    The reasons why this schedule cannot be built, none if it can.

    >>> problem = LinearProblem(64, 96, "int4<group=32>")
    >>> list(illegal(problem, LinearSchedule(8, 2, 192, 3, 48), frozenset({"avx512f"})))
    ['task_panels is 3, not a multiple of panels, 2', 'depth is 48, not a multiple of 32']
    """
    most = {"rows": MOST_ROWS, "panels": MOST_PANELS, "task_rows": MOST_TASK,
            "task_panels": MOST_TASK, "depth": 1 << 20}  # fmt: skip
    outside = [
        f"{name} is {getattr(schedule, name)}, not 1 to {limit}"
        for name, limit in most.items()
        if not 1 <= getattr(schedule, name) <= limit
    ]
    if outside:
        yield from outside
        return
    if schedule.task_rows % schedule.rows:
        yield f"task_rows is {schedule.task_rows}, not a multiple of rows, {schedule.rows}"
    if schedule.task_panels % schedule.panels:
        yield f"task_panels is {schedule.task_panels}, not a multiple of panels, {schedule.panels}"
    if not problem.integers and schedule.depth % problem.granule:
        yield f"depth is {schedule.depth}, not a multiple of {problem.granule}"
    if schedule.keep and not problem.integers:
        yield "keep is of integers; with fp32 x all tiles read decoded weights"
    count, wide = REGISTERS["avx512f" if "avx512f" in features else ""]
    needed = wide * registers(problem, schedule)
    if needed > count:
        yield f"a tile needs {needed} registers, of which there are {count}"
    held = scratch_bytes(problem, schedule)
    if held > SCRATCH_BYTES:
        yield f"a unit needs {held} bytes of scratch, of which there are {SCRATCH_BYTES}"


def registers(problem: LinearProblem, schedule: LinearSchedule) -> int:
    """Of sixteen lanes, in the innermost loop: sums, weights, and what x is broadcast to."""
    return (schedule.rows + 1) * schedule.panels * problem.operands + 1


def scratch_bytes(problem: LinearProblem, schedule: LinearSchedule) -> int:
    """What a unit of work keeps decoded."""
    if not problem.integers:
        depth = min(schedule.depth, problem.k)
        return 4 * PANEL_ROWS * schedule.task_panels * depth
    words = -(-problem.k // 4)
    return 4 * PANEL_ROWS * schedule.panels * problem.operands * words * schedule.keep

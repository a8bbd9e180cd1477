"""
How a group can be computed, and the schedule that it gets when nobody chose one.

Reductions that all depend on the leading axes of the outputs alone make these axes rows: a warp or
a block then owns a row, reads it once and keeps it. Everything else is computed element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..bindings import ir
from ..regions import walk
from .extents import Extents
from .folds import combination
from .group import WARP, WIDEST_ACCESS, GroupSchedule, group_extents, stored_bytes
from .group_op import outputs_of
from .index import (
    ONE,
    Index,
    Loaded,
    Quotient,
    Remainder,
    Variable,
    atoms,
    delinearized,
    linearized,
    multiple_of,
    product,
    variables,
)
from .reads import Bodies, Load, Reads

Inside = Callable[[Any], bool]
ANGULAR = ("math.sin", "math.cos", "math.tan")
THREADS = 256
ROW_THREADS = 128
KEPT_COLUMNS = 32  # registers of one value that a thread may keep
COLUMNS_OF_A_THREAD = 16
NARROW_WORDS = 4


@dataclass(frozen=True)
class Work:
    """
    The shape of a group's work: the axes of `whole` before `row_axes` are rows; -1 without rows.

    `repeated` counts functions of dozens of instructions that are computed again for elements that
    could share them, `totals` the results of reductions.
    """

    whole: tuple[Index, ...]
    row_axes: int
    repeated: int
    totals: int = 0

    @property
    def by_rows(self) -> bool:
        return self.row_axes >= 0

    @property
    def columns(self) -> Index:
        return product(self.whole[self.row_axes :]) if self.by_rows else ONE


def work_of(
    outputs: Sequence[ir.Value], extents: Extents, inside: Inside, bodies: Bodies | None = None
) -> Work | None:
    """How the outputs can be computed by one kernel; None if they cannot."""
    shapes = [extents.of(each) for each in outputs]
    whole = max(shapes, key=_wide_axes)
    reads = Reads(extents, inside, bodies or Bodies())
    axes = [Variable(f"d{axis}", extent) for axis, extent in enumerate(whole)]
    for output, shape in zip(outputs, shapes, strict=True):
        place = _place_of(shape, whole, axes)
        if place is None:
            return None
        reads.read(output, place)
    long = [axis for axis, extent in zip(axes, whole, strict=True) if extent != ONE]
    if not reads.folds:
        if any(_long(shape) != _long(whole) for shape in shapes):
            return None
        return Work(whole, -1, sum(not set(long) <= found for found in reads.costly))
    rows = _rows(reads, axes, whole)
    if rows is None or any(not _fits_rows(shape, whole, rows) for shape in shapes):
        return None
    wide = [axis for axis in long if axis in axes[:rows]]
    repeated = sum(not (set(wide) <= found or _is_of_fold(found)) for found in reads.costly)
    totals = sum(len(fold.op.results) for fold, _ in reads.folds.values())
    return Work(whole, rows, repeated, totals)


def default_group_schedule(group: Any) -> GroupSchedule:
    """Of a `tile.group`; legal for every size."""
    outputs, extents = outputs_of(group), group_extents(group)
    work = work_of(outputs, extents, _anything)
    assert work is not None, "a group is made of ops that one kernel can compute"
    if not work.by_rows:
        return _by_elements(outputs, extents)
    stage = _Stage(outputs, extents, work)
    if stage.folds_of_a_thread:
        rows = product(work.whole[: work.row_axes])
        threads = _threads(rows, ROW_THREADS)
        return GroupSchedule(threads, 1, work.row_axes)
    if work.columns == ONE and not stage.reads_neighbours:
        return GroupSchedule(THREADS)
    vector = stage.vector()
    count = stage.columns.constant
    if count is None:
        return GroupSchedule(ROW_THREADS, 1, work.row_axes, WARP)
    lanes = _lanes(count, vector)
    threads = max(ROW_THREADS, lanes)
    if lanes > WARP:
        threads = lanes
    cached = -(-count // (lanes * vector)) * vector <= KEPT_COLUMNS
    return GroupSchedule(threads, vector, work.row_axes, lanes, cached)


def _anything(_: Any) -> bool:
    return True


def _wide_axes(shape: Sequence[Index]) -> tuple[int, int]:
    return len(_long(shape)), len(shape)


def _long(shape: Sequence[Index]) -> list[Index]:
    return [extent for extent in shape if extent != ONE]


def _place_of(
    shape: Sequence[Index], whole: Sequence[Index], axes: Sequence[Variable]
) -> tuple[Index, ...] | None:
    """Where an output has the element of a point of the whole; None if it has other axes."""
    if len(shape) == len(whole):
        pairs = zip(shape, whole, axes, strict=True)
        if all(extent in (ONE, all_of) for extent, all_of, _ in pairs):
            found = zip(shape, axes, strict=True)
            return tuple(Index.of(0 if extent == ONE else axis) for extent, axis in found)
        return None
    rest = [axis for extent, axis in zip(whole, axes, strict=True) if extent != ONE]
    place = []
    for extent in shape:
        if extent == ONE:
            place.append(Index.of(0))
        elif rest and rest[0].extent == extent:
            place.append(Index.of(rest.pop(0)))
        else:
            return None
    return tuple(place)


def _rows(reads: Reads, axes: Sequence[Variable], whole: Sequence[Index]) -> int | None:
    """How many leading axes all reductions depend on, each on all of them."""
    if reads.nested:
        return None
    needed = []
    for fold, _ in reads.folds.values():
        # Several elements may have the same quotient, and would compute the same reduction.
        shared = Loaded | Quotient | Remainder
        if any(isinstance(atom, shared) for index in fold.outer for atom in atoms(index)):
            return None
        found = frozenset().union(*(variables(index) for index in fold.outer))
        if not found <= set(axes):
            return None
        needed.append(found)
    rows = max((axes.index(axis) + 1 for found in needed for axis in found), default=0)
    wanted = {a for a, extent in zip(axes[:rows], whole, strict=False) if extent != ONE}
    return rows if all(found == wanted for found in needed) else None


def _fits_rows(shape: Sequence[Index], whole: Sequence[Index], rows: int) -> bool:
    """Whether an output is whole, or has one element for each row, with the same axes of rows."""
    if tuple(shape[:rows]) != tuple(whole[:rows]):
        return False
    rest = shape[rows:]
    return _long(rest) in ([], _long(whole[rows:]))


def _is_of_fold(found: frozenset[Variable]) -> bool:
    return any(each.name.startswith("fold") for each in found)


def _by_elements(outputs: Sequence[ir.Value], extents: Extents) -> GroupSchedule:
    shape = extents.of(outputs[0])
    count = product(shape)
    for vector in (8, 4, 2) if not _reduces_angles(outputs) else ():
        if not multiple_of(count, vector):
            continue
        index, lane = Variable("index", count, vector), Variable("i", Index.of(vector))
        at = Index.of(index) + Index.of(lane)
        reads = Reads(extents)
        for output in outputs:
            reads.read(output, delinearized(at, extents.of(output)))
        if not reads.folds and _moves(reads.loads, outputs, extents, lane, vector):
            return GroupSchedule(_threads(count, THREADS, vector), vector)
    return GroupSchedule(_threads(count, THREADS))


def _reduces_angles(outputs: Sequence[ir.Value]) -> bool:
    """Whether a function is computed whose code for large angles needs memory when unrolled."""
    owners = [each.owner for each in outputs if not isinstance(each.owner, ir.Block)]
    ops = [op for owner in owners for op in walk(owner.operation.parent)]
    return any(op.operation.name in ANGULAR for op in ops)


def _threads(count: Index, most: int, each: int = 1) -> int:
    """Enough for a small known count, `each` a thread, else `most`; powers of two, whole warps."""
    known = count.constant
    if known is None or known >= most * each:
        return most
    return max(WARP, 1 << max(0, -(-known // each) - 1).bit_length())


def _moves(
    loads: Sequence[Load],
    outputs: Sequence[ir.Value],
    extents: Extents,
    lane: Variable,
    vector: int,
) -> bool:
    """Whether all neighbours are moved by wide accesses, and there are some."""
    widths = [stored_bytes(_element(output)) for output in outputs]
    for load in loads:
        index = linearized(load.place, extents.of(load.tensor))
        if lane not in variables(index):
            continue
        first = index - Index.of(lane)
        if load.guarded or lane in variables(first) or not multiple_of(first, vector):
            return False
        widths.append(stored_bytes(_element(load.tensor)))
    return max(widths) * vector <= WIDEST_ACCESS


@dataclass
class _Stage:
    """What the threads of a row read."""

    outputs: Sequence[ir.Value]
    extents: Extents
    work: Work

    def __post_init__(self) -> None:
        self.reads, self.lane = self._reads(1)

    def _reads(self, vector: int) -> tuple[Reads, Variable]:
        """Of one column; reductions are read at the same column as the outputs."""
        rows = self.work.row_axes
        row = Variable("row", product(self.work.whole[:rows]))
        lane = Variable("i", Index.of(vector))
        reads = Reads(self.extents)
        for output in self.outputs:
            shape = self.extents.of(output)
            at = self._column(product(shape[rows:]), vector, lane)
            place = (*delinearized(Index.of(row), shape[:rows]), *delinearized(at, shape[rows:]))
            reads.read(output, place)
        for fold, _ in list(reads.folds.values()):
            at = self._column(product(fold.columns), vector, lane)
            reads.read_body(fold, fold.at(delinearized(at, fold.columns)))
        return reads, lane

    @staticmethod
    def _column(count: Index, vector: int, lane: Variable) -> Index:
        if count == ONE:
            return Index.of(0)
        return Index.of(Variable("column", count, vector)) + (Index.of(lane) if vector > 1 else 0)

    @property
    def columns(self) -> Index:
        """Of the outputs, or of the widest reduction."""
        if self.work.columns != ONE:
            return self.work.columns
        found = [product(fold.columns) for fold, _ in self.reads.folds.values()]
        return next((c for c in found if c.constant is None), None) or max(
            found, key=lambda each: each.constant or 0
        )

    @property
    def folds_of_a_thread(self) -> bool:
        """Whether the order of some reduction matters."""
        return any(
            combination(fold.op, number) is None
            for fold, _ in self.reads.folds.values()
            for number in range(len(fold.op.results))
        )

    @property
    def reads_neighbours(self) -> bool:
        """Whether the columns of reductions lie beside one another in most of what is read."""
        columns = [
            linearized(load.place, self.extents.of(load.tensor))
            for load in self.reads.loads
            if any(each.name == "column" for index in load.place for each in variables(index))
        ]
        straight = [index for index in columns if _has_stride_one(index)]
        return 2 * len(straight) >= len(columns)

    def vector(self) -> int:
        counts = [product(fold.columns) for fold, _ in self.reads.folds.values()]
        counts += [self.work.columns] * (self.work.columns != ONE)
        for vector in (8, 4, 2):
            if all(count.constant is not None and count.constant % vector == 0 for count in counts):
                reads, lane = self._reads(vector)
                wide = [o for o in self.outputs if self.extents.of(o) == self.work.whole]
                if _moves(reads.of_columns(lane), wide or self.outputs, self.extents, lane, vector):
                    return vector
        return 1


def _has_stride_one(index: Index) -> bool:
    return any(
        factor == 1
        and len(term) == 1
        and isinstance(term[0], Variable)
        and term[0].name == "column"
        for term, factor in index.terms
    )


def _lanes(count: int, vector: int) -> int:
    """Threads of a row: a warp or less while each has few columns, else a block."""
    pieces = -(-count // vector)
    lanes = 1
    while lanes < pieces and lanes < WARP:
        lanes *= 2
    while lanes * COLUMNS_OF_A_THREAD * 2 < count and lanes < 1024:
        lanes *= 2
    return lanes


def _element(value: ir.Value) -> ir.Type:
    return ir.RankedTensorType(value.type).element_type

"""Fused groups in which threads share a row: its reductions first, then what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

from ...dialects.bindings import ir
from ...dialects.tile.elements import Folded
from ...dialects.tile.folds import Combination, combination
from ...dialects.tile.group import WARP
from ...dialects.tile.index import ONE, Index, Variable, delinearized, linearized, product
from ...dialects.tile.reads import staged_folds
from .group_emitter import GroupEmitter, times
from .group_registers import AT_ONCE, WHOLLY, ColumnLoop
from .group_scope import Scalar, Scope
from .group_text import kind_of_element
from .printer import linear
from .scalar_rules import expression, float_literal, held_type


class RowGroup(GroupEmitter):
    def __init__(self, op: Any) -> None:
        super().__init__(op)
        self.row = Variable("row", self._rows())
        self.shared_views = 0

    def _share(self) -> str:
        s, axes = self.schedule, self.schedule.row_axes
        sizes = [str(each) for each in self.extents.of(self.outputs[0])]
        shape = "[" + ", ".join(sizes[:axes]) + " | " + ", ".join(sizes[axes:]) + "]"
        how = f"{s.lanes} threads a row, {s.vector} columns at a time"
        kept = ", kept in registers" if s.cached else ""
        return f"{s.per_block} rows of {shape}, {how}{kept}"

    def _rows(self) -> Index:
        return product(self.extents.of(self.outputs[0])[: self.schedule.row_axes])

    def columns_of(self, output: ir.Value) -> Index:
        return product(self.extents.of(output)[self.schedule.row_axes :])

    @property
    def whole(self) -> list[int]:
        """The outputs with several columns."""
        return [n for n, each in enumerate(self.outputs) if self.columns_of(each) != ONE]

    @cached_property
    def stages(self) -> list[list[Folded]]:
        """Reductions over the columns of a row: each stage needs those before it."""
        row, axes = Index.of(self.row), self.schedule.row_axes
        places = []
        for output in self.outputs:
            sizes = self.extents.of(output)
            column = Variable("column", self.columns_of(output), self.schedule.vector)
            at = (*delinearized(row, sizes[:axes]), *delinearized(Index.of(column), sizes[axes:]))
            places.append((output, at))
        return staged_folds(places, self.extents, frozenset({self.row}))

    def _body(self) -> None:
        s, text = self.schedule, self.text
        text.depths[self.row] = 0
        self._who_am_i()
        columns = {c.constant for c in self._all_columns()}
        count = next(iter(columns), None)
        if s.cached and len(columns) == 1 and count is not None:
            chunks = -(-count // (s.lanes * s.vector))
            text.registers.count = chunks * s.vector
            text.registers.slot = linear((s.vector, "chunk") if chunks > 1 else 0,
                                         text.lane.name if s.vector > 1 else 0)  # fmt: skip
        for stage in self.stages:
            for folds in _alike(stage):
                self._reduce(folds)
        if self.whole:
            column = self.columns_of(self.outputs[self.whole[0]])
            with self._stores(), self._column_loop(column) as at:
                for number in self.whole:
                    output = self.outputs[number]
                    self._store(output, self.views[number], at, self._row_of(output))
        self._store_rows()

    def _all_columns(self) -> list[Index]:
        found = [product(fold.columns) for stage in self.stages for fold in stage]
        return found + [self.columns_of(self.outputs[number]) for number in self.whole]

    def _row_of(self, output: ir.Value) -> tuple[Index, ...]:
        return delinearized(Index.of(self.row), self.extents.of(output)[: self.schedule.row_axes])

    def _who_am_i(self) -> None:
        s, line = self.schedule, self.text.scopes.line
        rows = self.text.index(self._rows()).text
        if s.lanes > WARP:
            line("const int row = blockIdx.x;")
            line(f"const int part = threadIdx.x, warp = part / {WARP};")
            return
        first = f"{s.per_block} * blockIdx.x + threadIdx.x"
        first += f" / {s.lanes}" if s.lanes > 1 else ""
        if s.lanes in (1, WARP):
            line(f"const int row = {first};")
            line(f"if (row >= {rows}) return;")
        else:
            line(f"const int wanted = {first};")
            line(
                f"const int row = minimum(wanted, {rows} - 1);  // all lanes take part in exchanges"
            )
        if s.lanes > 1:
            line(f"const int part = threadIdx.x % {s.lanes};")

    @property
    def _clamped(self) -> bool:
        return 1 < self.schedule.lanes < WARP

    @contextmanager
    def _stores(self):
        """Rows that do not exist are not stored."""
        if not self._clamped:
            yield
            return
        with self.text.scopes.open(Scope("if (wanted == row)")):
            yield

    @contextmanager
    def _column_loop(self, count: Index):
        """Over the columns of this thread; the index of the column, in the innermost scope."""
        s, text = self.schedule, self.text
        column = Variable("column", count, s.vector)
        step, part = s.lanes * s.vector, "part" if s.lanes > 1 else "0"
        first = times(s.vector, part)
        total, known = text.index(count).text, count.constant
        unrolled = text.registers.count > 0 and known is not None
        with ExitStack() as stack:
            if unrolled:
                assert known is not None
                chunks = -(-known // step)
                pragma = WHOLLY if chunks <= AT_ONCE else f"{WHOLLY} {AT_ONCE}"
                outer = (
                    Scope(f"for (int chunk = 0; chunk < {chunks}; ++chunk)", pragma)
                    if chunks > 1
                    else Scope()
                )
                text.registers.outer = outer
                stack.enter_context(text.scopes.open(outer))
                at = linear((step, "chunk") if chunks > 1 else 0, first)
                text.scopes.line(f"const int column = {at};")
                if known % step:
                    stack.enter_context(text.scopes.open(Scope(f"if (column < {total})")))
            else:
                outer = Scope(f"for (int column = {first}; column < {total}; column += {step})")
                stack.enter_context(text.scopes.open(outer))
            text.depths[column] = text.scopes.depth
            text.registers.inside = True
            with self._lane_loop():
                text.registers.depth = text.scopes.depth
                yield Index.of(column) + (Index.of(text.lane) if s.vector > 1 else 0)
                inner, depth = text.scopes.chain[-1], text.scopes.depth
            text.registers.inside = False
        text.registers.loops.append(ColumnLoop(outer, inner, depth))

    def _reduce(self, folds: Sequence[Folded]) -> None:
        """One loop over the columns for all of `folds`, then what its threads found combined."""
        text, alone = self.text, self.schedule.lanes == 1
        totals: list[list[Scalar]] = []
        for fold in folds:
            shared = [None if alone else _combined(fold, n) for n in range(len(fold.op.results))]
            totals.append(
                [
                    text.accumulator(fold, n, None if each is None else _identity(fold, n, each))
                    for n, each in enumerate(shared)
                ]
            )
        with self._column_loop(product(folds[0].columns)) as at:
            for fold, mine in zip(folds, totals, strict=True):
                text.accumulate(fold, mine, fold.at(delinearized(at, fold.columns)))
        for fold, mine in zip(folds, totals, strict=True):
            for number, total in enumerate(mine):
                if not alone:
                    self._combine(fold, number, total)
                place = text.result_at(fold, number).place
                text.scopes.know((fold.op.results[number], place), total)

    def _combine(self, fold: Folded, number: int, total: Scalar) -> None:
        """The same total in every thread of the row, added in a fixed order."""
        line, op = self.text.scopes.line, _combined(fold, number).op
        name, kind, lanes = total.text, held_type(total.kind), self.schedule.lanes
        with self.text.scopes.open(
            Scope(
                f"for (int distance = {min(lanes, WARP) // 2}; distance > 0; distance /= 2)",
                "#pragma unroll",
            )
        ):
            line(f"const {kind} other = {_exchanged(total)};")
            line(f"{name} = {expression(op, [name, 'other'])};")
        if lanes > WARP:
            warps = lanes // WARP
            view = self.names.fresh("totals")
            line(f"const Shared<{kind}> {view}({4 * warps * self.shared_views}, {warps});")
            self.shared_views += 1
            line(f"if (part % {WARP} == 0) {view}.store(warp, {name});")
            line("sync_threads();")
            line(f"{name} = {view}.load(0);")
            with self.text.scopes.open(
                Scope(f"for (int other = 1; other < {warps}; ++other)", "#pragma unroll")
            ):
                line(f"const {kind} more = {view}.load(other);")
                line(f"{name} = {expression(op, [name, 'more'])};")
        start = self.text.initial(fold, number)
        if start.text != _identity(fold, number, _combined(fold, number)):
            line(f"{name} = {expression(op, [start.text, name])};")

    def _store_rows(self) -> None:
        """Outputs with one element in each row, which one thread stores."""
        text = self.text
        narrow = [n for n in range(len(self.outputs)) if n not in self.whole]
        if not narrow:
            return
        conditions = ["part == 0"] * (self.schedule.lanes > 1) + ["wanted == row"] * self._clamped
        found = []
        for number in narrow:
            output = self.outputs[number]
            sizes = self.extents.of(output)
            place = (*self._row_of(output), *(Index.of(0),) * (len(sizes) - self.schedule.row_axes))
            found.append((self.views[number], text.value(output, place), linearized(place, sizes)))
        with ExitStack() as stack:
            if conditions:
                stack.enter_context(text.scopes.open(Scope(f"if ({' && '.join(conditions)})")))
            for view, value, index in found:
                text.store(view, value, index)


def _combined(fold: Folded, number: int) -> Combination:
    found = combination(fold.op, number)
    assert found is not None, "schedules give such reductions to one thread"
    return found


def _identity(fold: Folded, number: int, combined: Combination) -> str:
    kind = kind_of_element(fold.op.results[number])
    if kind == "i1":
        return "true" if combined.identity else "false"
    return float_literal(combined.identity, kind) if "f" in kind else str(int(combined.identity))


def _exchanged(total: Scalar) -> str:
    if total.kind == "i1":
        return f"shuffle_xor(s32({total.text}), distance) != 0"
    return f"shuffle_xor({total.text}, distance)"


def _alike(folds: Sequence[Folded]) -> list[list[Folded]]:
    """Those over the same columns together."""
    found: dict[Index, list[Folded]] = {}
    for fold in folds:
        found.setdefault(product(fold.columns), []).append(fold)
    return list(found.values())

"""Plain keys and values, f16 or bf16 in shared memory, as attention kernels meet them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import gcd

from ..dialects import tile
from ..dialects.bindings import ir
from ..dialects.tile.attention_problem import (
    AttentionProblem,
    AttentionSchedule,
    Rows,
    sixteens,
)
from ..dialects.tile.dialect import tensor_of
from ..dialects.tile.problem import WARP_GROUP_INSTRUCTION_OF
from ..dialects.tile.warp_memory import BOXES
from .tile_builder import (
    Number,
    fragment,
    label,
    rows_of,
    shared,
    text,
    unroll,
)

Picked = Callable[[Number | int, int, str], ir.Value]
STEP = 64  # columns of a query that is not kept in registers


@dataclass
class Side:
    """Keys or values of one kernel under way."""

    problem: AttentionProblem
    schedule: AttentionSchedule
    rows: Rows
    views: dict[str, ir.Value] = field(default_factory=dict)
    tiles: dict[str, ir.Value] = field(default_factory=dict)
    base: Number | None = None
    part: Number | None = None

    def argument_types(self) -> dict[str, ir.Type]:
        return {self.rows.name: rows_of(self.rows.depth, self.rows.element)}

    def view(
        self, given: dict[str, ir.Value], planes: Number, capacity: Number, plane: Number
    ) -> None:
        name = self.rows.name
        count = planes * capacity
        self.views[name] = tile.ViewOp(given[name], count.value, given[name].type).view
        self.base = plane * capacity

    @property
    def placed(self) -> bool:
        """Whether this step's rows are decoded into shared memory, for warp groups to multiply."""
        return self.schedule.warp_groups and self.rows.format is not None

    def place(self) -> None:
        """Decode this step's rows into shared memory, where they are `placed`."""

    def columns_of(self, kind: str) -> ir.Type:
        return fragment([self.schedule.warps, self.schedule.keys], kind, "columns")

    def brought(
        self, name: str, first: Number, column: Number | int, count: Number, kind: ir.Type
    ) -> None:
        """Fetch rows of a view; `tiles[name]` afterwards."""
        stream = "evict_first" if self.schedule.share_keys else "normal"
        self.tiles[name] = tile.RowsOp(
            self.views[name], first.value, Number.of(column).value, count.value, text(stream), kind
        ).tile

    @property
    def order(self) -> str:
        """Of tiles, as the products want them."""
        return BOXES if self.schedule.warp_groups else "rows"

    @property
    def instruction(self) -> str:
        if self.schedule.warp_groups:
            return WARP_GROUP_INSTRUCTION_OF[self.problem.operand]
        return self.problem.instruction

    def multiplied(self, a: ir.Value, b: ir.Value, sums: ir.Value, k: Number | int) -> ir.Value:
        return tile.MultiplyOp(
            a, b, sums, Number.of(k).value, text(self.instruction), sums.type
        ).result

    def right(self, rows: int, columns: int) -> ir.Type:
        return fragment([self.schedule.warps, rows, columns], self.problem.operand, "b")


class PlainKeys(Side):
    @property
    def columns(self) -> int:
        return sixteens(self.rows.depth)

    def fetch(self, k: Number, end: Number) -> None:
        assert self.base is not None
        shape = [self.schedule.block_keys, self.columns]
        kind = shared(shape, self.problem.operand, self.order)
        self.brought("key", self.base + k, 0, end - k, kind)

    def multiply(
        self, query: ir.Value | None, picked: Picked, at: Number, products: ir.Value
    ) -> ir.Value:
        keys = self.schedule.keys

        def operand(k: Number, columns: int) -> ir.Value:
            kind = self.right(keys, columns)
            straight = text("straight")
            return tile.OperandOp(self.tiles["key"], at.value, k.value, straight, kind).fragment

        if query is not None:
            return self.multiplied(query, operand(Number(0), self.columns), products, 0)

        def step(k: Number, carried: list[ir.Value]) -> list[ir.Value]:
            some = picked(k, step_of(self.columns), "query_part")
            return [self.multiplied(some, operand(k, step_of(self.columns)), carried[0], 0)]

        return unroll([products], self.columns, step_of(self.columns), step, "depth")[0]


def step_of(columns: int) -> int:
    return gcd(columns, STEP)


class PlainValues(Side):
    units = 0

    def widths(self) -> list[int]:
        return [self.problem.value_columns]

    def first_column(self, group: int, part: Number) -> Number:
        return part * self.problem.value_columns + group

    def fetch(self, k: Number, end: Number, part: Number) -> None:
        assert self.base is not None
        columns = self.problem.value_columns
        shape = [self.schedule.block_keys, columns]
        kind = shared(shape, self.problem.operand, self.order)
        self.brought("value", self.base + k, part * columns, end - k, kind)

    def rescaling(
        self, group: int, at: Number, units: list[ir.Value], turn: ir.Value, per_row: ir.Type
    ) -> tuple[ir.Value | None, ir.Value]:
        return None, turn

    def add(
        self, group: int, weights: ir.Value, at: Number, unit: ir.Value | None, sums: ir.Value
    ) -> ir.Value:
        s = self.schedule
        kind = self.right(self.problem.value_columns, s.keys)
        turned = text("transposed")
        values = tile.OperandOp(
            self.tiles["value"], at.value, Number(0).value, turned, kind
        ).fragment
        return self.multiplied(converted(weights, self.problem.operand), values, sums, 0)

    def restored(self, group: int, units: list[ir.Value], sums: ir.Value) -> ir.Value:
        return sums


def converted(weights: ir.Value, operand: str) -> ir.Value:
    kind = fragment(tensor_of(weights.type).shape, operand, "a")
    return label(tile.ConvertOp(weights, kind).result, "left")

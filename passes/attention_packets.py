"""
Keys and values in packets of codes, as attention kernels meet them.

Scales of keys multiply columns of scores. Those of values multiply the weights, over the largest of
them so far (the unit): weights stay at most 1 in the operand type, and the unit returns in fp32
with the sums. A format with a scale for each sign is multiplied twice, each time with the part of
the codes that has this sign.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import gcd

from ..dialects import tile
from ..dialects.bindings import arith, ir
from ..dialects.formats import Format
from ..dialects.formats.packets import LANES, PACKET_COLUMNS, PACKET_ROWS
from ..dialects.tile.attention_problem import (
    KEYS,
    AttentionProblem,
    AttentionSchedule,
    packet_columns,
    row_parts,
    sixteens,
)
from ..dialects.tile.dialect import tensor_of
from ..dialects.tile.problem import signed_scales
from ..dialects.tile.warp_memory import BOXES
from .attention_rows import Picked, PlainKeys, PlainValues, Side, converted
from .tile_builder import (
    Number,
    each,
    fill,
    label,
    quotient,
    reduced,
    rows_of,
    shared,
    single,
    text,
    unroll,
)

SMALLEST_UNIT = 2.0**-120


class Packed(Side, ABC):
    """Codes in packets, scales and zero points in rows; `prefix` of arguments is the rows' name."""

    @property
    def format(self) -> Format:
        assert self.rows.format is not None
        return self.rows.format

    @property
    def group(self) -> int | None:
        """Columns that share a scale; None where a row has one."""
        size = self.format.block_size
        return size if isinstance(size, int) and size < self.rows.depth else None

    @property
    def factor(self) -> float:
        program = self.problem.program(self.rows)
        assert program is not None
        return program.factor

    @property
    def packet_words(self) -> int:
        return LANES * self.format.bits

    def row_parts(self) -> dict[str, tuple[int, str]]:
        return row_parts(self.rows)

    def flags(self, at: Number) -> ir.Value | None:
        """Zero or NaN for each of this warp's positions."""
        return None

    def argument_types(self) -> dict[str, ir.Type]:
        name = self.rows.name
        kinds = {f"{name}_codes": rows_of(packet_columns(self.rows), "ui32")}
        for role, (columns, kind) in self.row_parts().items():
            kinds[f"{name}_{role}"] = rows_of(columns, kind)
        if self.problem.table_name(self.rows) == f"{name}_table":
            kinds[f"{name}_table"] = rows_of(1, "ui32")
        return kinds

    def view(
        self, given: dict[str, ir.Value], planes: Number, capacity: Number, plane: Number
    ) -> None:
        name = self.rows.name
        self.base = plane * capacity
        count = planes * capacity
        sizes = dict.fromkeys(self.row_parts(), count) | {"codes": count // self.tall}
        arguments = {f"{name}_{role}": rows for role, rows in sizes.items()}
        program = self.problem.program(self.rows)
        if program is not None and program.table:
            arguments[self.problem.table_name(self.rows) or ""] = Number(len(program.table))
        for argument, rows in arguments.items():
            made = tile.ViewOp(given[argument], rows.value, given[argument].type).view
            self.views[argument] = made

    tall = PACKET_ROWS
    """Positions of a row of packets."""

    def fetched(self, k: Number, end: Number, column: Number | int, words: int) -> None:
        assert self.base is not None
        name, s = self.rows.name, self.schedule
        tall = self.tall
        count = (end - k + (tall - 1)) // tall
        kind = shared([s.block_keys // tall, words], "ui32")
        self.brought(f"{name}_codes", (self.base + k) // tall, column, count, kind)
        for role, (columns, element) in self.row_parts().items():
            kind = shared([s.block_keys, columns], element)
            self.brought(f"{name}_{role}", self.base + k, 0, end - k, kind)

    def unpacked(
        self, first: Number, k: Number | int, strip: Number | int, sign: str, kind: ir.Type,
        zero_column: Number | int,
    ) -> ir.Value:  # fmt: skip
        name = self.rows.name
        zeros = self.tiles.get(f"{name}_zero_point")
        optional = {} if zeros is None else {
            "zeros": zeros, "zero_column": Number.of(zero_column).value}  # fmt: skip
        if (table := self.problem.table_name(self.rows)) is not None:
            optional["table"] = self.views[table]
        assert self.rows.spelling is not None
        return tile.UnpackOp(
            self.tiles[f"{name}_codes"], first.value, Number.of(k).value, Number.of(strip).value,
            text(self.rows.spelling), text(sign), text(self.strips), text("column"), kind,
            **optional,
        ).fragment  # fmt: skip

    strips = "rows"

    def placed_codes(self, rows: int, columns: int, zero: Number | int) -> None:
        """Codes [rows, columns] decoded into shared memory: tile "operand" afterwards."""
        kind = shared([rows, columns], self.problem.operand, BOXES)
        codes = self.unpacked(Number(0), 0, 0, "all", self.right(rows, columns), zero)
        made = tile.PlaceOp(codes, kind)
        made.operation.attributes["label"] = text(f"{self.rows.name}_operand")
        self.tiles["operand"] = made.tile

    def operand(self, rows: int, columns: int) -> ir.Value:
        """What `placed_codes` decoded, for a product."""
        kind, zero = self.right(rows, columns), Number(0).value
        return tile.OperandOp(self.tiles["operand"], zero, zero, text("straight"), kind).fragment

    def signs(self) -> list[tuple[str, str | None]]:
        """Which codes to multiply, and the role of the scale that they have."""
        fmt = self.format
        if not fmt.block_scales:
            return [("all", None)]
        return list(signed_scales(fmt))

    def scale(self, role: str, at: Number, column: Number | int, name: str) -> ir.Value:
        """The factors of this warp's positions, fp32, with that of the decode program."""
        decoding, factor = self.format.scale_decoding(role), self.factor
        stored = self.tiles[f"{self.rows.name}_{role}"]
        element = str(tensor_of(stored.type).element_type)
        taken = tile.ColumnsOp(
            stored, at.value, Number.of(column).value, text("column"), self.columns_of(element)
        ).vector
        label(taken, f"{name}_stored")

        def decoded(stored: ir.Value, *flags: ir.Value) -> ir.Value:
            value = tile.ScaleOp(stored, text(decoding.kind), ir.F32Type.get()).value
            if decoding.divide:
                empty = arith.cmpf(arith.CmpFPredicate.OEQ, value, single(0.0))
                value = arith.select(empty, single(0.0), arith.divf(single(factor), value))
            elif factor != 1:
                value = arith.mulf(value, single(factor))
            return self.guarded(value, *flags)

        inputs = [taken, *([flags] if (flags := self.flags(at)) is not None else [])]
        return each(inputs, self.columns_of("f32"), decoded, name)

    @abstractmethod
    def guarded(self, factor: ir.Value, *flags: ir.Value) -> ir.Value:
        """The factor, or what says that the position holds something not finite."""


class PackedKeys(Packed):
    @property
    def columns(self) -> int:
        return -(-self.rows.depth // PACKET_COLUMNS) * PACKET_COLUMNS

    def argument_types(self) -> dict[str, ir.Type]:
        return super().argument_types() | {"key_flags": rows_of(1, "f32")}

    def row_parts(self) -> dict[str, tuple[int, str]]:
        """Flags beside scales and zero points: NaN where a key or a value is not finite."""
        return super().row_parts() | {"flags": (1, "f32")}

    def flags(self, at: Number) -> ir.Value:
        flags = self.tiles["key_flags"]
        kind = self.columns_of("f32")
        return label(
            tile.ColumnsOp(flags, at.value, Number(0).value, text("column"), kind).vector, "flag"
        )

    def guarded(self, factor: ir.Value, *flags: ir.Value) -> ir.Value:
        return arith.addf(factor, flags[0])

    def fetch(self, k: Number, end: Number) -> None:
        self.fetched(k, end, 0, packet_columns(self.rows))

    def place(self) -> None:
        if self.placed:
            self.placed_codes(self.schedule.keys, self.columns, 0)

    def multiply(
        self, query: ir.Value | None, picked: Picked, at: Number, products: ir.Value
    ) -> ir.Value:
        group = self.group or self.columns
        for sign, role in self.signs():
            for number, first in enumerate(range(0, self.rows.depth, group)):
                last = min(first + group, self.columns)
                zero = products if role is None else fill(0.0, products.type, "part")
                part = self._span(query, picked, at, zero, (first, last), sign)
                products = part if role is None else self._scaled(products, part, role, at, number)
        return products if self.signs()[0][1] else self._unscaled(products, at)

    def _span(
        self, query: ir.Value | None, picked: Picked, at: Number, sums: ir.Value,
        span: tuple[int, int], sign: str,
    ) -> ir.Value:  # fmt: skip
        """Products with the columns of `span`, which share a scale."""
        first, last = span
        if self.placed and query is not None:
            codes = self.operand(self.schedule.keys, self.columns)
            return self.multiplied(query, codes, sums, 0)
        chunk = gcd(gcd(first, last - first) or PACKET_COLUMNS, PACKET_COLUMNS)
        resident = query is not None
        group = self.group

        def step(k: Number, carried: list[ir.Value]) -> list[ir.Value]:
            k = k + first
            some = query if query is not None else picked(k, chunk, "query_part")
            kind = self.right(self.schedule.keys, chunk)
            strip = at // PACKET_ROWS
            codes = self.unpacked(strip, k, 0, sign, kind, first // group if group else 0)
            return [self.multiplied(some, codes, carried[0], k if resident else 0)]

        return unroll([sums], last - first, chunk, step, "depth")[0]

    def _scaled(
        self, products: ir.Value, part: ir.Value, role: str, at: Number, number: int
    ) -> ir.Value:
        scale = self.scale(role, at, number, "key_factor")
        if self.group is None and not self.format.splits_signs:
            return each([part, scale], part.type, arith.mulf)

        def added(total, part, scale):
            return arith.addf(arith.mulf(part, scale), total)

        return each([products, part, scale], products.type, added)

    def _unscaled(self, products: ir.Value, at: Number) -> ir.Value:
        factor = self.factor

        def flagged(product: ir.Value, flag: ir.Value) -> ir.Value:
            return arith.addf(arith.mulf(product, single(factor)), flag)

        return each([products, self.flags(at)], products.type, flagged)


class PackedValues(Packed):
    strips = "columns"
    tall = KEYS

    def guarded(self, factor: ir.Value, *flags: ir.Value) -> ir.Value:
        """Zero for what is not finite: those who do not see it multiply it by zero."""
        finite = arith.cmpf(arith.CmpFPredicate.OEQ, arith.subf(factor, factor), single(0.0))
        return arith.select(finite, factor, single(0.0))

    @property
    def units(self) -> int:
        return len(self.widths()) if self.format.block_scales else 0

    def widths(self) -> list[int]:
        """Columns of this block's groups, each padded to a multiple of 16."""
        group, columns = self.group, self.problem.value_columns
        if group is None or not self.format.block_scales:
            return [columns]
        inside = min(columns, sixteens(self.rows.depth))
        return [sixteens(min(group, inside - first)) for first in range(0, inside, group)]

    def first_column(self, group: int, part: Number) -> Number:
        return part * self.problem.value_columns + group * (self.group or 0)

    def fetch(self, k: Number, end: Number, part: Number) -> None:
        self.part = part
        strips = self.problem.value_columns // PACKET_ROWS
        words = strips * self.packet_words
        self.fetched(k, end, part * words, words)

    def place(self) -> None:
        if self.placed:
            columns = self.problem.value_columns
            self.placed_codes(columns, self.schedule.keys, self.scale_column(0))

    def rescaling(
        self, group: int, at: Number, units: list[ir.Value], turn: ir.Value, per_row: ir.Type
    ) -> tuple[ir.Value | None, ir.Value]:
        """The largest factor so far, and how what was summed before weighs in it."""
        self.factors: dict[str, ir.Value] = {}
        if not self.units:
            return None, turn
        unit = units[group]
        for sign, role in self.signs():
            assert role is not None
            column = self.scale_column(group)
            self.factors[sign] = self.scale(role, at, column, "value_factor")
            unit = reduced(self.factors[sign], "max", "columns", unit.type, unit)
        unit = each([unit], unit.type, lambda u: arith.maxnumf(u, single(SMALLEST_UNIT)), "unit")

        def weighed(turn, before, after):
            return arith.mulf(turn, quotient(before, after))

        return unit, each([turn, units[group], unit], per_row, weighed, "turn")

    def scale_column(self, group: int) -> Number:
        """Which scale of a row `group` of this part has; parts may have more than there are."""
        assert self.part is not None
        if self.group is None:
            return Number(group)
        first = self.part * self.problem.value_columns // self.group
        if self.problem.parts == 1:
            return first + group
        return (first + group).least(-(-self.rows.depth // self.group) - 1)

    def add(
        self, group: int, weights: ir.Value, at: Number, unit: ir.Value | None, sums: ir.Value
    ) -> ir.Value:
        width, operand = self.widths()[group], self.problem.operand
        strip = group * (self.group or 0) // PACKET_ROWS
        for sign, _ in self.signs():
            share = weights if unit is None else self._shared_out(weights, sign, unit)
            if self.placed:
                codes = self.operand(width, self.schedule.keys)
            else:
                kind, zero = self.right(width, self.schedule.keys), self.scale_column(group)
                codes = self.unpacked(at // KEYS, 0, strip, sign, kind, zero)
            sums = self.multiplied(converted(share, operand), codes, sums, 0)
        return sums

    def _shared_out(self, weights: ir.Value, sign: str, unit: ir.Value) -> ir.Value:
        """Weights times factors, in units: at most 1."""
        factor = self.factors[sign]
        ratio = each([factor, unit], factor.type, quotient, "ratio")
        return each([weights, ratio], weights.type, arith.mulf, "shares")

    def restored(self, group: int, units: list[ir.Value], sums: ir.Value) -> ir.Value:
        if units:
            return each([sums, units[group]], sums.type, arith.mulf)
        if self.factor == 1:
            return sums
        return each([sums], sums.type, lambda x: arith.mulf(x, single(self.factor)))


def keys_for(problem: AttentionProblem, schedule: AttentionSchedule) -> PlainKeys | PackedKeys:
    kind = PlainKeys if problem.keys.format is None else PackedKeys
    return kind(problem, schedule, problem.keys)


def values_for(
    problem: AttentionProblem, schedule: AttentionSchedule
) -> PlainValues | PackedValues:
    kind = PlainValues if problem.values.format is None else PackedValues
    return kind(problem, schedule, problem.values)

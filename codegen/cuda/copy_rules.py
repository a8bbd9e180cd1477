"""Copies of tiles from global into shared memory, by all threads of the block."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod
from typing import Any

from ...dialects.bindings import ir
from ...dialects.tile.dialect import element_bytes, note_of, swizzle_period, tensor_of
from ...dialects.tile.layout import Layout, swizzled
from .kernel_text import DYNAMIC, KernelText, c_type
from .printer import divided, linear

COPY_BYTES = 16
SMALLEST_COPY = 4
MOST_UNDER_WAY = 8  # vectors of a thread that wait in registers on their way to shared memory
LONG_PLACE = 40


@dataclass(frozen=True)
class Plan:
    """
    Which vectors of a tile a thread copies: always the same distance apart.

    In turn t: row `row` + `rows_at_once` * (t / `turns_of_row`), and as many vectors further
    along the row as there are threads, t % `turns_of_row` times.
    """

    rows: int
    columns: int
    vector: int
    threads: int

    @property
    def per_row(self) -> int:
        return self.columns // self.vector

    @property
    def rows_at_once(self) -> int:
        return max(1, min(self.threads // self.per_row, self.rows))

    @property
    def turns_of_row(self) -> int:
        return -(-self.per_row // self.threads)

    @property
    def turns(self) -> int:
        return -(-self.rows // self.rows_at_once) * self.turns_of_row

    @property
    def row(self) -> str:
        return divided("thread", self.per_row) if self.rows_at_once > 1 else "0"

    @property
    def column(self) -> str:
        if self.per_row == 1:
            return "0"
        within = f"thread % {self.per_row}" if self.rows_at_once > 1 else "thread"
        return within if self.vector == 1 else f"{within} * {self.vector}"

    def idle(self) -> str:
        """The threads that have a vector in every turn, where not all have one."""
        busy = self.rows_at_once * self.per_row
        return f"thread < {busy}" if self.turns_of_row == 1 and busy < self.threads else ""

    def row_step(self, turn: str) -> str:
        return linear((self.rows_at_once, divided(turn, self.turns_of_row)))

    def column_step(self, turn: str) -> str:
        if self.turns_of_row == 1:
            return "0"
        return linear((self.threads * self.vector, f"({turn} % {self.turns_of_row})"))


def plan_of(text: KernelText, op: Any) -> Plan:
    """Vectors as wide as rows of both memories, and groups of columns, divide into."""
    tile, source = tensor_of(op.tile.type), tensor_of(op.source.type)
    columns, pitch = prod(tile.shape[1:]), prod(source.shape[1:])
    vector = gcd(pitch, columns, COPY_BYTES // element_bytes(source.element_type), *groups(op))
    return Plan(tile.shape[0], columns, vector, text.schedule.threads)


def groups(op: Any) -> list[int]:
    """Columns of a group in the source and in the tile, where zeros fill it up."""
    return list(ir.DenseI64ArrayAttr(op.groups))


def declare_stage_tile(text: KernelText, op: Any) -> None:
    """The tile in each stage."""
    out, tensor = text.out, tensor_of(op.tile.type)
    name = text.names[op.tile] = out.fresh(f"{text.name(op.source)}_tile")
    kind, count = c_type(tensor.element_type), prod(tensor.shape)
    shape = " x ".join(map(str, tensor.shape))
    out.comment(f"{name}: {shape} of {tensor.element_type}, {note_of(op.tile.type)}")
    place = linear((text.plan.stage_bytes, "stage"), text.stage_offsets[op.tile])
    out.line(f"const auto {name} = [](int stage) {{ return Shared<{kind}>({place}, {count}); }};")


def declare_places(text: KernelText, op: Any) -> None:
    """Where this thread's first vector of a tile comes from and goes to."""
    out, plan, source = text.out, plan_of(text, op), text.name(op.source)
    (row0, column0), pitch = origins(text, op), prod(tensor_of(op.source.type).shape[1:])
    row, column = f"{source}_row", f"{source}_column"
    first_row = linear("0" if _moves(row0) else row0, row)
    first_column = linear("0" if _moves(column0) else column0, column) if not groups(op) else "0"
    out.line(f"const int {row} = {plan.row}, {column} = {plan.column};")
    from_ = linear((pitch, f"s64({first_row})"), first_column)
    out.line(f"const auto {source}_from = {source}.at({from_});")
    if not _exchanges_by_turn(op, plan):
        out.line(f"const int {source}_to = {shared_place(op.tile.type, row, column)};")


def origins(text: KernelText, op: Any) -> tuple[str, str]:
    """Row and column of the source where the tile begins."""
    inner = prod(tensor_of(op.tile.type).shape[2:])
    divisors = list(ir.DenseI64ArrayAttr(op.divisors))
    row, column = (
        divided(text.name(value), divisor) if divisor < LONGEST else "0"
        for value, divisor in zip(op.offsets, divisors, strict=True)
    )
    return row, linear((inner, column))


LONGEST = 1 << 30  # a divisor that every k is below: one group for all


def _moves(origin: str) -> bool:
    """Whether an origin goes with k, or else stays with the block."""
    return "k" in origin


def shared_place(type_: ir.Type, row: str, column: str) -> str:
    """The element of a shared tile at (row, column), `column` a multiple of the vector."""
    columns = prod(tensor_of(type_).shape[1:])
    if swizzle_period(note_of(type_)) == 1:
        return linear((columns, row), column)
    return f"{columns} * {row} + ({column} ^ {exchange(type_, row)})"


def exchange(type_: ir.Type, row: str) -> str:
    """What a row flips in the columns of its vectors, from the layout of the tile."""
    period = swizzle_period(note_of(type_))
    vector = COPY_BYTES // element_bytes(tensor_of(type_).element_type)
    width = period * vector  # the columns among which vectors are exchanged
    unit = swizzled((period, width), vector, period)
    rows = unit.images["offset"][-(period.bit_length() - 1) :]
    (term,) = Layout((1, width), {row: tuple((0, each[1]) for each in rows)}).terms(1)
    return f"({term.index} & {term.mask}) * {1 << term.place}"


def copy_into_stage(text: KernelText, op: Any) -> None:
    """
    This thread's vectors of a tile; zeros outside of the source.

    Turns are a constant distance apart in both memories: a row of 8 further on has the same
    exchange of vectors. Where a row begins on no multiple of 4 bytes, or elements are converted,
    they go through registers.
    """
    out, plan = text.out, plan_of(text, op)
    name, pitch = text.name(op.source), prod(tensor_of(op.source.type).shape[1:])
    row0, column0 = origins(text, op)
    out.comment(f"{name}: rows of {plan.columns}, {plan.vector} at once")
    with out.loop("turn", plan.turns, at_once=_under_way(op, plan)) as turn:
        rows, columns = plan.row_step(turn), plan.column_step(turn)
        row, column = linear(row0, f"{name}_row", rows), linear(column0, f"{name}_column", columns)
        moving_row = f"s64({row0})" if _moves(row0) else "0"
        along = column0 if _moves(column0) else "0"
        if groups(op):
            along = column = _column_of_group(text, op, column)
        further = "0" if groups(op) else columns
        from_ = linear((pitch, moving_row), along, scaled(pitch, rows), further)
        to = _to(op, plan, name, rows, columns)
        if len(to) > LONG_PLACE:
            out.line(f"const int to = {to};")
            to = "to"
        inside = " && ".join(_bounds(text, op, row, column)) or "true"
        guard = " && ".join(filter(None, (plan.idle(), _left_over(plan, name, rows, columns))))
        move = (_convert if _converts(op) else _move)(text, op, plan.vector, to, from_, inside)
        out.line(f"if ({guard}) {move}" if guard else move)


def _under_way(op: Any, plan: Plan) -> int:
    """How many turns may be unrolled: what goes through registers must not fill them; 0: all."""
    size = plan.vector * element_bytes(tensor_of(op.source.type).element_type)
    return MOST_UNDER_WAY if _converts(op) or size < SMALLEST_COPY else 0


def _column_of_group(text: KernelText, op: Any, column: str) -> str:
    """The column of the source that stands at `column` of rows with padded groups."""
    size, padded = groups(op)
    text.out.line(f"const int stored = {column};")
    return f"stored / {padded} * {size} + stored % {padded}"


def scaled(factor: int, value: str) -> str:
    """A product of a number and a text that `linear` made: a number times a name, or a name."""
    parts = value.split(" * ", 1)
    if len(parts) == 2 and parts[0].isdigit():
        return f"{factor * int(parts[0])} * {parts[1]}"
    return linear((factor, value))


def _exchanges_by_turn(op: Any, plan: Plan) -> bool:
    """Whether turns are not whole periods of the exchange of vectors apart."""
    period = swizzle_period(note_of(op.tile.type))
    return period > 1 and plan.turns > 1 and bool(plan.rows_at_once % period)


def _to(op: Any, plan: Plan, name: str, rows: str, columns: str) -> str:
    if _exchanges_by_turn(op, plan):
        return shared_place(op.tile.type, f"({linear(f'{name}_row', rows)})",
                            linear(f"{name}_column", columns))  # fmt: skip
    return linear(f"{name}_to", scaled(plan.columns, rows), columns)


def _bounds(text: KernelText, op: Any, row: str, column: str) -> list[str]:
    """Comparisons that a vector inside of the source fulfils, without those that all do."""
    tile, source = tensor_of(op.tile.type), tensor_of(op.source.type)
    extents = (source.shape[0], prod(source.shape[1:]))
    sizes = (tile.shape[0], prod(tile.shape[1:]))
    names = (text.extents(op.source)[0], str(extents[1]))
    anywhere = bool(groups(op)) or text.schedule.streams  # not at multiples of the tile's size
    bounds = [
        f"{at} < {name}"
        for at, name, extent, size in zip((row, column), names, extents, sizes, strict=True)
        if extent == DYNAMIC or extent % size or anywhere
    ]
    if groups(op):
        size, padded = groups(op)
        bounds.append(f"stored % {padded} < {size}")
    return bounds


def _left_over(plan: Plan, name: str, rows: str, columns: str) -> str:
    """What keeps a thread from copying beyond the tile in the last turn of a row, or of all."""
    checks = []
    if plan.rows % plan.rows_at_once:
        checks.append(f"{linear(f'{name}_row', rows)} < {plan.rows}")
    if plan.turns_of_row > 1 and plan.per_row % plan.threads:
        checks.append(f"{linear(f'{name}_column', columns)} < {plan.columns}")
    return " && ".join(checks)


def _converts(op: Any) -> bool:
    return tensor_of(op.source.type).element_type != tensor_of(op.tile.type).element_type


def _convert(text: KernelText, op: Any, vector: int, to: str, from_: str, inside: str) -> str:
    """f32 of the source, rounded."""
    target, source = text.stage_tile(op.tile), f"{text.name(op.source)}_from"
    kind = tensor_of(op.tile.type).element_type
    if vector == 1:
        rounded = f"{kind}_from_f32({source}.load({from_}))"
        return f"{target}.store({to}, {inside} ? {rounded} : u16(0));"
    text.out.line(f"Words<{vector}> read = {{}};")
    text.out.line(f"if ({inside}) read = {source}.load<{4 * vector}>({from_});")
    pairs = [
        f"{kind}x2_from_f32(float_of(read[{each}]), float_of(read[{each + 1}]))"
        for each in range(0, vector, 2)
    ]
    words = pairs[0] if len(pairs) == 1 else f"{{{', '.join(pairs)}}}"
    return f"{target}.store<{2 * vector}>({to}, {words});"


def _move(text: KernelText, op: Any, vector: int, to: str, from_: str, inside: str) -> str:
    target, source = text.stage_tile(op.tile), f"{text.name(op.source)}_from"
    size = vector * element_bytes(tensor_of(op.tile.type).element_type)
    if size < SMALLEST_COPY:
        access = f"<{size}>" if vector > 1 else ""
        loaded = f"{source}.load{access}({from_})"
        return f"{target}.store{access}({to}, {inside} ? {loaded} : 0);"
    cache = op.cache.value
    hint = "" if cache == "normal" or size < COPY_BYTES else f", Cache::{cache}"
    valid = f", {inside} ? {size} : 0" if inside != "true" else ""
    return f"copy_async<{size}{hint}>({target}.at({to}), {source}.at({from_}){valid});"

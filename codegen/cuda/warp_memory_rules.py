"""Rules for what warp kernels read and write: rows into shared memory, fragments to and from."""

from __future__ import annotations

from contextlib import nullcontext
from math import gcd
from typing import Any

from ...dialects.bindings import ir
from ...dialects.tile.dialect import element_bytes, note_of, tensor_of
from ...dialects.tile.warp_memory import BOXES, row_pitch
from .copy_rules import COPY_BYTES, SMALLEST_COPY, Plan
from .kernel_text import c_type
from .printer import bare, linear
from .warp_text import Place, Shape, WarpText, over, scope

HALVES = ("f16", "bf16")


def view(text: WarpText, op: Any) -> None:
    """A checked view of an argument; tables have none, since they are read from shared memory."""
    argument = text.name(op.source)
    if all(use.owner.operation.name == "tile.unpack" for use in op.view.uses):
        text.names[op.view] = argument.removesuffix("_pointer")
        return
    tensor = tensor_of(op.source.type)
    const = "" if op.source in written(text) else "const "
    kind, columns = c_type(tensor.element_type), tensor.shape[1]
    name = text.names[op.view] = argument.removesuffix("_pointer")
    count = f"s64({bare(text.name(op.rows))})" + (f" * {columns}" if columns > 1 else "")
    text.out.line(f"const Global<{const}{kind}> {name}({argument}, {count});")


def written(text: WarpText) -> list[ir.Value]:
    names = {ir.StringAttr(name).value for name in text.op.writes}
    given = zip(text.op.arguments, text.op.body.blocks[0].arguments, strict=True)
    return [argument for name, argument in given if ir.StringAttr(name).value in names]


def declare_tile(text: WarpText, op: Any) -> None:
    """The tile in each stage."""
    tensor = tensor_of(op.tile.type)
    name = text.names[op.tile] = text.out.fresh(f"{text.name(op.source)}_tile")
    kind = c_type(tensor.element_type)
    shape = " x ".join(map(str, tensor.shape))
    text.out.comment(f"{name}: {shape} of {tensor.element_type}")
    place = linear((text.stage_bytes[op.tile], "stage"), text.offsets[op.tile])
    count = tensor.shape[0] * row_pitch(op.tile.type)
    text.out.line(
        f"const auto {name} = [](int stage) {{ return Shared<{kind}>({place}, {count}); }};"
    )


def rows(text: WarpText, op: Any) -> None:
    """This thread's vectors of a tile, zeros where the source has none."""
    out, source, tile = text.out, tensor_of(op.source.type), tensor_of(op.tile.type)
    pitch, columns = source.shape[1], tile.shape[1]
    size = element_bytes(tile.element_type)
    start = text.name(op.column)
    widest = COPY_BYTES // max(size, element_bytes(source.element_type))
    pieces = list(ir.DenseI64ArrayAttr(op.pieces))
    vector = gcd(pitch, columns, widest, *pieces)
    plan = Plan(tile.shape[0], columns, vector, text.threads)
    name = text.name(op.source)
    out.comment(f"{name}: rows of {columns}, {vector} at once")
    with out.loop("turn", plan.turns) as turn, scope(text, plan.turns):
        out.line(f"const int i = {linear(plan.row, plan.row_step(turn))};")
        out.line(f"const int j = {linear(plan.column, plan.column_step(turn))};")
        inside = [f"i < {bare(text.name(op.count))}"]
        along = "j"
        if pieces:
            along = f"j / {pieces[0]} * {pieces[1]} + j % {pieces[0]}"
        elif start != "0" or columns > pitch or pitch % columns:
            inside.append(f"{linear(start, 'j')} < {pitch}")
        first = linear(bare(text.name(op.first)), "i")
        from_ = linear((pitch, f"s64({first})"), start, along)
        to = place_of(op.tile.type)
        guard = [plan.idle()] if plan.idle() else []
        guard += [f"i < {plan.rows}"] * bool(plan.rows % plan.rows_at_once)
        guard += [f"j < {columns}"] * bool(plan.turns_of_row > 1 and plan.per_row % plan.threads)
        move = _move(text, op, vector, to, from_, " && ".join(inside))
        with out.block(f"if ({' && '.join(guard)})") if guard else nullcontext():
            for line in move:
                out.line(line)


def bulk_rows(text: WarpText, op: Any) -> None:
    """Of one thread: all rows of a tile, which the barrier of the stage receives."""
    source, tile = tensor_of(op.source.type), tensor_of(op.tile.type)
    name, (rows, columns) = text.name(op.source), tile.shape
    text.out.comment(f"{name}: rows of {columns}")
    with text.out.loop("i", rows) as i:
        to = f"{text.name(op.tile)}(stage).at({linear((columns, i))})"
        row = f"s64({linear(text.name(op.first), i)})"
        at = linear((source.shape[1], row), text.name(op.column))
        size = columns * element_bytes(tile.element_type)
        text.out.line(f"copy_bulk({to}, {name}.at({at}), {size}, full.at(stage));")


def place_of(tile: ir.Type) -> str:
    """
    The element of a shared tile in row i and column j.

    Boxes have 128 bytes of each row, whose chunks of 16 are exchanged by the row.
    """
    if note_of(tile) != BOXES:
        return linear((row_pitch(tile), "i"), "j")
    tensor = tensor_of(tile)
    vector = COPY_BYTES // element_bytes(tensor.element_type)
    width = 8 * vector
    box = (tensor.shape[0] * width, f"(j / {width})") if tensor.shape[1] > width else "0"
    return linear(box, (width, "i"), f"(j % {width} ^ i % 8 * {vector})")


def _move(text: WarpText, op: Any, vector: int, to: str, from_: str, inside: str) -> list[str]:
    source, tile = (tensor_of(each.type).element_type for each in (op.source, op.tile))
    name, target = text.name(op.source), f"{text.name(op.tile)}(stage)"
    if str(source) != str(tile):
        return _converted(name, target, vector, to, from_, inside, str(tile))
    size = vector * element_bytes(tile)
    if size < SMALLEST_COPY:
        access = f"<{size}>" if vector > 1 else ""
        return [f"{target}.store{access}({to}, {inside} ? {name}.load{access}({from_}) : 0);"]
    hint = "" if op.cache.value == "normal" or size < COPY_BYTES else f", Cache::{op.cache.value}"
    return [
        f"const bool inside = {inside};",
        f"copy_async<{size}{hint}>({target}.at({to}), {name}.at(inside ? {from_} : 0), "
        f"inside ? {size} : 0);",
    ]


def _converted(
    name: str, target: str, vector: int, to: str, from_: str, inside: str, kind: str
) -> list[str]:
    """fp32 through registers, rounded to the type of the tile."""
    lines = [f"const bool inside = {inside};"]
    if vector == 1:
        value = f"inside ? {name}.load({from_}) : 0.0f"
        return [*lines, f"{target}.store({to}, {kind}_from_f32({value}));"]
    access = f"{name}.load<{4 * vector}>({from_})"
    lines.append(f"Words<{vector}> wide = {{}};")
    lines.append(f"if (inside) wide = {access};")
    pairs = [
        f"{kind}x2_from_f32(float_of(wide[{i}]), float_of(wide[{i + 1}]))"
        for i in range(0, vector, 2)
    ]
    packed = pairs[0] if vector == 2 else f"Words<{vector // 2}>{{{{{', '.join(pairs)}}}}}"
    return [*lines, f"{target}.store<{2 * vector}>({to}, {packed});"]


def pick(text: WarpText, op: Any) -> None:
    """A left operand or an accumulator from global memory, each lane its own elements."""
    out, shape = text.out, Shape.of(op.fragment.type)
    name = text.names[op.fragment] = text.label(op, "picked")
    out.line(f"{shape.declared(name)};")
    source = tensor_of(op.source.type)
    row0, column0 = bare(text.name(op.row)), bare(text.name(op.column))
    names = text.name(op.source), bare(text.name(op.limit)), str(source.shape[1])
    if shape.role != "a":
        with over(text, shape) as place:
            _pick_one(text, op, shape, place, name)
        return
    strips, steps, _ = shape.dimensions
    e = shape.per_register
    with (
        out.loop("strip", strips) as strip,
        out.loop("step", steps) as step,
        out.loop("value", 4) as value,
    ):
        out.line(f"const int at_row = {linear(row0, (16, strip), f'lane / 4 + {value} % 2 * 8')};")
        column = linear(column0, (8 * e, step), f"lane % 4 * {e} + {value} / 2 * {4 * e}")
        out.line(f"const int at_column = {column};")
        parts = [_part(names, source, f"at_column + {i}" if i else "at_column", shape.element)
                 for i in range(e)]  # fmt: skip
        target = f"{name}[{strip}][{step}][{value}]"
        if e == 2 and source.shape[1] % 2 == 0:
            _pick_pair(out, names, source, target, shape.element)
        elif e == 2:
            out.line(f"{target} = {parts[0]} | {parts[1]} << 16;")
        else:
            out.line(f"{target} = {' | '.join(f'{p} << {8 * i}' for i, p in enumerate(parts))};")


def _pick_pair(out: Any, names: tuple[str, str, str], source: Any, target: str, kind: str) -> None:
    """Two neighbours at once, where rows hold a whole number of pairs."""
    view_name, limit, columns = names
    inside = f"at_row < {limit} && at_column < {columns}"
    at = f"s64(at_row) * {columns} + at_column"
    if str(source.element_type) == kind:
        out.line(f"{target} = {inside} ? {view_name}.load<4>({at}) : 0;")
        return
    out.line("Words<2> pair = {};")
    out.line(f"if ({inside}) pair = {view_name}.load<8>({at});")
    out.line(f"{target} = {kind}x2_from_f32(float_of(pair[0]), float_of(pair[1]));")


def _part(names: tuple[str, str, str], source: Any, column: str, kind: str) -> str:
    """One element of an operand as bits, 0 outside."""
    view_name, limit, columns = names
    inside = f"at_row < {limit} && {column} < {columns}"
    loaded = f"{view_name}.load(s64(at_row) * {columns} + {column})"
    if str(source.element_type) != kind:
        loaded = f"{kind}_from_f32({loaded})"
    return f"({inside} ? u32({loaded}) : 0)"


def _pick_one(text: WarpText, op: Any, shape: Shape, place: Place, name: str) -> None:
    view_name, columns = text.name(op.source), tensor_of(op.source.type).shape[1]
    text.out.line(f"const int at_row = {linear(text.name(op.row), place.row)};")
    column = place.column if shape.role == "c" else "0"
    text.out.line(f"const int at_column = {linear(text.name(op.column), column)};")
    inside = f"at_row < {text.name(op.limit)} && at_column < {columns}"
    loaded = f"{view_name}.load(s64(at_row) * {columns} + at_column)"
    text.out.line(f"{name}{place.of} = {inside} ? {loaded} : 0.0f;")


def columns(text: WarpText, op: Any) -> None:
    shape = Shape.of(op.vector.type)
    name = text.names[op.vector] = text.label(op, "columns")
    text.out.line(f"{shape.declared(name)};")
    tile = f"{text.name(op.tile)}({text.stage})"
    pitch = row_pitch(op.tile.type)
    with over(text, shape) as place:
        row, column = text.name(op.row), text.name(op.column)
        if op.along.value == "column":
            row = linear(row, place.column)
        else:
            column = linear(column, place.column)
        at = linear((pitch, row), column)
        text.out.line(f"{name}{place.of} = {tile}.load({at});")


def save(text: WarpText, op: Any) -> None:
    """Pairs of neighbours at once where rows hold a whole number of them."""
    out, shape, target = text.out, Shape.of(op.fragment.type), tensor_of(op.target.type)
    name, to, limit = text.name(op.fragment), text.name(op.target), bare(text.name(op.limit))
    width, size = target.shape[1], element_bytes(target.element_type)
    row0, column0 = bare(text.name(op.row)), bare(text.name(op.column))
    if shape.role == "rows":
        with over(text, shape) as place:
            out.line(f"const int at_row = {linear(row0, place.row)};")
            at = linear((width, "s64(at_row)"), column0)
            out.line(f"if (at_row < {limit} && lane % 4 == 0) {to}.store({at}, {name}{place.of});")
        return
    out.line()
    strips, tiles, _ = shape.dimensions
    with (
        out.loop("strip", strips) as strip,
        out.loop("half", 2) as half,
        out.loop("tile", tiles) as tile,
    ):
        out.line(f"const int at_row = {linear(row0, (16, strip), 'lane / 4', (8, half))};")
        out.line(f"const int at_column = {linear(column0, (8, tile), 'lane % 4 * 2')};")
        values = [f"{name}[{strip}][{tile}][2 * {half} + {i}]" for i in range(2)]
        at = f"s64(at_row) * {width} + at_column"
        if width % 2 == 0:
            inside = f"at_row < {limit} && at_column < {width}"
            pair = _pair(values, size)
            out.line(f"if ({inside}) {to}.store<{2 * size}>({at}, {pair});")
        for index, value in enumerate(values if width % 2 else []):
            column = linear("at_column", index)
            inside = f"at_row < {limit} && {column} < {width}"
            out.line(f"if ({inside}) {to}.store({linear(at, index)}, {value});")


def _pair(values: list[str], size: int) -> str:
    if size == 4:
        return f"Words<2>{{{{bits_of({values[0]}), bits_of({values[1]})}}}}"
    return f"{values[0]} | u32({values[1]}) << 16"

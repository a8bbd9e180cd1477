"""Copies of tiles from global into shared memory, by all threads of the block."""

from __future__ import annotations

from math import gcd, prod
from typing import Any

from ...dialects.bindings import ir
from ...dialects.tile.dialect import element_bytes, note_of, swizzle_period, tensor_of
from ...dialects.tile.layout import Layout, swizzled
from .kernel_text import KernelText, c_type
from .printer import divided, linear

COPY_BYTES = 16
SMALLEST_COPY = 4


def declare_stage_tile(text: KernelText, op: Any) -> None:
    """A lambda from the number of a stage to the view of this tile in it."""
    tensor = tensor_of(op.tile.type)
    name = text.out.fresh(f"{text.name(op.source)}_tile")
    text.names[op.tile] = name
    kind, count = c_type(tensor.element_type), prod(tensor.shape)
    offset = text.stage_offsets[op.tile]
    shape = " x ".join(map(str, tensor.shape))
    text.out.line(f"// {name}: {shape}, {note_of(op.tile.type)}")
    place = f"{text.stage_bytes} * stage" + (f" + {offset}" if offset else "")
    text.out.line(
        f"const auto {name} = [](int stage) {{ return Shared<{kind}>({place}, {count}); }};"
    )


def vector_of(tile: ir.RankedTensorType, pitch: int) -> int:
    """Elements that one copy moves: as many as rows of both memories divide into."""
    size = element_bytes(tile.element_type)
    return gcd(pitch, prod(tile.shape[1:]), COPY_BYTES // size)


def copy_into_stage(text: KernelText, op: Any) -> None:
    """
    Rows of a tile, a vector a thread; zeros outside of the source.

    Where a row begins on no multiple of 4 bytes, elements go through registers.
    """
    out, tile = text.out, tensor_of(op.tile.type)
    source = tensor_of(op.source.type)
    columns, pitch = prod(tile.shape[1:]), prod(source.shape[1:])
    vector = vector_of(tile, pitch)
    threads, per_row = text.schedule.threads, columns // vector
    pieces = tile.shape[0] * per_row
    row0, column0 = _origins(text, op, prod(tile.shape[2:]))
    rows, name = text.extents(op.source)[0], text.name(op.source)
    out.comment(f"{name}: {tile.shape[0]} rows of {columns}, {vector} at once")
    with out.block(""), out.loop("turn", -(-pieces // threads)) as turn:
        row, column = _piece(threads, per_row, vector, turn)
        out.line(f"const int row = {row}, column = {column};")
        out.line(f"const int from_row = {row0} + row, from_column = {column0} + column;")
        out.line(f"const bool inside = from_row < {rows} && from_column < {pitch};")
        out.line(f"const s64 from = s64(from_row) * {pitch} + from_column;")
        guard = f"if (row < {tile.shape[0]}) " if pieces % threads else ""
        out.line(guard + _move(text, op, vector))


def _piece(threads: int, per_row: int, vector: int, turn: str) -> tuple[str, str]:
    """Row and column of a thread's vector in each turn, with all that is constant in it."""
    if threads % per_row == 0:
        row = linear(divided("thread", per_row), (threads // per_row, turn))
        return row, f"thread % {per_row} * {vector}"
    if per_row % threads == 0:
        turns = per_row // threads
        return divided(turn, turns), f"({turn} % {turns} * {threads} + thread) * {vector}"
    piece = f"({linear((threads, turn), 'thread')})"
    return f"{piece} / {per_row}", f"{piece} % {per_row} * {vector}"


def _origins(text: KernelText, op: Any, inner: int) -> tuple[str, str]:
    divisors = list(ir.DenseI64ArrayAttr(op.divisors))
    row0, column0 = (
        text.name(value) if divisor == 1 else f"{text.name(value)} / {divisor}"
        for value, divisor in zip(op.offsets, divisors, strict=True)
    )
    return row0, column0 if inner == 1 else f"{column0} * {inner}"


def row_offset(type_: ir.Type) -> str:
    """The element of a shared tile at (row, column), `column` a multiple of the vector."""
    columns = prod(tensor_of(type_).shape[1:])
    if swizzle_period(note_of(type_)) == 1:
        return f"row * {columns} + column"
    return f"row * {columns} + (column ^ {exchange(type_, 'row')})"


def exchange(type_: ir.Type, row: str) -> str:
    """What a row flips in the columns of its vectors, from the layout of the tile."""
    tile, period = tensor_of(type_), swizzle_period(note_of(type_))
    unit = swizzled((period, tile.shape[1]), COPY_BYTES // element_bytes(tile.element_type), period)
    rows = unit.images["offset"][-(period.bit_length() - 1) :]
    (term,) = Layout((1, tile.shape[1]), {row: tuple((0, each[1]) for each in rows)}).terms(1)
    return f"({term.index} & {term.mask}) * {1 << term.place}"


def _move(text: KernelText, op: Any, vector: int) -> str:
    name, to, target = text.name(op.source), row_offset(op.tile.type), text.stage_tile(op.tile)
    size = vector * element_bytes(tensor_of(op.tile.type).element_type)
    if size < SMALLEST_COPY:
        access = f"<{size}>" if vector > 1 else ""
        return f"{target}.store{access}({to}, inside ? {name}.load{access}(from) : 0);"
    cache = op.cache.value
    hint = "" if cache == "normal" or size < COPY_BYTES else f", Cache::{cache}"
    return f"copy_async<{size}{hint}>({target}.at({to}), {name}.at(from), inside ? {size} : 0);"

"""Copies of tiles from global into shared memory, by all threads of the block."""

from __future__ import annotations

from math import gcd, prod
from typing import Any

from ...dialects.bindings import ir
from ...dialects.tile.dialect import element_bytes, note_of, swizzle_period, tensor_of
from ...dialects.tile.layout import Layout, swizzled
from .kernel_text import KernelText, c_type

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
    inner = prod(tile.shape[2:])
    columns, pitch = prod(tile.shape[1:]), prod(source.shape[1:])
    vector = vector_of(tile, pitch)
    pieces, per_row = tile.shape[0] * columns // vector, columns // vector
    threads = text.schedule.threads
    row0, column0 = _origins(text, op, inner)
    rows, name = text.extents(op.source)[0], text.name(op.source)
    out.comment(f"{name}: {tile.shape[0]} rows of {columns}, {vector} at once")
    with out.loop("turn", -(-pieces // threads)):
        out.line(f"const int piece = {threads} * turn + thread;")
        if pieces % threads:
            out.line(f"if (piece >= {pieces}) break;" if pieces > threads else
                     f"if (piece < {pieces})")  # fmt: skip
        with out.block(""):
            out.line(f"const int row = piece / {per_row}, column = piece % {per_row} * {vector};")
            out.line(f"const int from_row = {row0} + row, from_column = {column0} + column;")
            out.line(f"const bool inside = from_row < {rows} && from_column < {pitch};")
            out.line(f"const s64 from = inside ? s64(from_row) * {pitch} + from_column : 0;")
            _move(text, op, vector, f"{row_offset(op.tile.type, vector)}")


def _origins(text: KernelText, op: Any, inner: int) -> tuple[str, str]:
    divisors = list(ir.DenseI64ArrayAttr(op.divisors))
    row0, column0 = (
        text.name(value) if divisor == 1 else f"{text.name(value)} / {divisor}"
        for value, divisor in zip(op.offsets, divisors, strict=True)
    )
    return row0, column0 if inner == 1 else f"{column0} * {inner}"


def row_offset(type_: ir.Type, vector: int) -> str:
    """The element of a shared tile at (row, column), `column` a multiple of the vector."""
    tile, period = tensor_of(type_), swizzle_period(note_of(type_))
    columns = prod(tile.shape[1:])
    exchanged = "column" if period == 1 else f"(column ^ {exchange(type_, 'row')})"
    del vector
    return f"row * {columns} + {exchanged}"


def exchange(type_: ir.Type, row: str) -> str:
    """What a row flips in the columns of its vectors, from the layout of the tile."""
    tile, period = tensor_of(type_), swizzle_period(note_of(type_))
    unit = swizzled((period, tile.shape[1]), COPY_BYTES // element_bytes(tile.element_type), period)
    rows = unit.images["offset"][-(period.bit_length() - 1) :]
    (term,) = Layout((1, tile.shape[1]), {row: tuple((0, each[1]) for each in rows)}).terms(1)
    return f"({term.index} & {term.mask}) * {1 << term.place}"


def _move(text: KernelText, op: Any, vector: int, to: str) -> None:
    out, name = text.out, text.name(op.source)
    tile, size = tensor_of(op.tile.type), text.element_bytes(op.tile)
    size = element_bytes(tile.element_type)
    target = text.stage_tile(op.tile)
    if vector * size >= SMALLEST_COPY:
        cache = op.cache.value
        hint = "" if cache == "normal" or vector * size < COPY_BYTES else f", Cache::{cache}"
        moved = f"copy_async<{vector * size}{hint}>"
        valid = f"inside ? {vector * size} : 0"
        out.line(f"{moved}({target}.at({to}), {name}.at(from), {valid});")
        return
    out.line(f"{target}.store({to}, inside ? {name}.load(from) : 0);" if vector == 1 else
             f"{target}.store<{vector * size}>({to}, inside ? {name}.load<{vector * size}>(from) : 0);")  # fmt: skip

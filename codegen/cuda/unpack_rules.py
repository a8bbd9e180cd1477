"""Rules for weights out of codes: where a lane's packets are, decoded where they are multiplied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...dialects.formats.packets import LANES, PACKET_COLUMNS, word_planes
from ...dialects.tile.decode_program import DecodeProgram
from ...dialects.tile.dialect import tensor_of
from ...dialects.tile.warp_launch import program_of
from ...dialects.tile.warp_memory import row_pitch
from .printer import divided, grouped, linear, number
from .warp_text import WarpText


def unpack(text: WarpText, op: Any) -> None:
    """Where this lane's codes begin; they are decoded where they are multiplied."""
    name = text.names[op.fragment] = text.out.fresh(text.name(op.tile).replace("_tile", "_lane"))
    pitch = row_pitch(op.tile.type)
    at = linear((pitch, text.name(op.first)), (_strip_step(op), text.name(op.strip)))
    text.out.line(f"const auto {name} = {text.name(op.tile)}({text.stage}).at({at});")
    text.lazy[op.fragment] = op


def _packet_words(op: Any) -> int:
    return LANES * _bits(op)


def _bits(op: Any) -> int:
    return program_of(op).bits


def _strip_step(op: Any) -> int:
    return row_pitch(op.tile.type) if op.strips.value == "rows" else _packet_words(op)


def _packet_step(op: Any) -> int:
    return _packet_words(op) if op.strips.value == "rows" else row_pitch(op.tile.type)


def decoded_strip(text: WarpText, op: Any, strip: str) -> Callable[[str], str]:
    """Prints the decoding of a strip; how to name the registers of a step."""
    k, columns = text.name(op.k), tensor_of(op.fragment.type).shape[2]
    return decoded(text, op, (strip, divided(k, PACKET_COLUMNS)), k, columns)


def decoded(
    text: WarpText, op: Any, place: tuple[str, str], k: str, columns: int
) -> Callable[[str], str]:
    """The same of `columns` columns of a packet; `place` is its strip and its number there."""
    out, program, (strip, packet) = text.out, text.program(op), place
    of_unit = PACKET_COLUMNS // program.units
    units = max(1, columns // of_unit)
    steps = program.registers // 4
    out.line(f"u32 words[{program.bits}];")
    at = linear((_strip_step(op), strip), (_packet_step(op), packet))
    out.line(f"const auto packet = {text.name(op.fragment)}.at({at});")
    _load_words(text, program)
    out.line(f"u32 decoded[{units}][{steps}][4];")
    within = "0" if k == "0" else f"{grouped(k)} % {PACKET_COLUMNS} / {of_unit}"
    with out.loop("unit", units) as unit:
        arguments = [f"decoded[{unit}]", "words"]
        if program.units > 1:
            arguments.append(linear(within, unit))
        if program.offsets:
            by_row = op.strips.value == "rows"
            make = _row_offsets if by_row else _column_offsets
            arguments.append(make(text, op, program, strip if by_row else unit))
        if program.table:
            arguments.append(f"{text.name(op.table)}_of_lane")
        out.line(f"{decoder(text, op)}({', '.join(arguments)});")
        if op.sign.value != "all":
            function = f"{'max' if op.sign.value == 'positive' else 'min'}_{program.operand.name}x2"
            with out.loop("step", steps) as step, out.loop("i", 4) as i:
                value = f"decoded[{unit}][{step}][{i}]"
                out.line(f"{value} = {function}({value}, 0);")
    if columns >= of_unit:
        return lambda step: f"decoded[{divided(step, steps)}][{remainder(step, steps)}]"
    offset = f"{grouped(k)} % {of_unit} / {8 * program.order.per_register}"
    return lambda step: f"decoded[0][{linear(offset, step)}]"


def remainder(value: str, by: int) -> str:
    if by == 1:
        return "0"
    return str(int(value) % by) if value.isdigit() else f"{value} % {by}"


def _load_words(text: WarpText, program: DecodeProgram) -> None:
    for plane in word_planes(program.order, program.bits):
        for first in range(0, plane.bits, plane.at_once):
            start, low, count = plane.offset(0, first), plane.low + first, plane.at_once
            at = linear((count, "lane"), start)
            access = f"packet.load<{4 * count}>({at})"
            if count == 1:
                text.out.line(f"words[{low}] = {access};")
                continue
            text.out.line(f"const auto read_{low} = {access};")
            parts = [f"words[{low + i}] = read_{low}[{i}]" for i in range(count)]
            text.out.line(", ".join(parts) + ";")


def decoder(text: WarpText, unpack: Any) -> str:
    """The name of the function that decodes; one of its own where zero points go by column."""
    name = text.functions.name(text.program(unpack))
    return f"{name}_by_column" if by_column(unpack) else name


def by_column(unpack: Any) -> bool:
    return unpack.zeros is not None and unpack.strips.value == "columns"


def _column_offsets(text: WarpText, op: Any, program: DecodeProgram, unit: str) -> str:
    """Arguments made of the zero points of the columns, pairs of neighbours."""
    out, count = text.out, program.registers // 2
    out.line(f"u32 offsets[{len(program.offsets)}][{count}];")
    tile, pitch = f"{text.name(op.zeros)}({text.stage})", row_pitch(op.zeros.type)
    with out.loop("half", count) as half:
        row = linear((PACKET_COLUMNS, text.name(op.first)), (8 * count, unit), (8, half),
                     "lane % 4 * 2")  # fmt: skip
        at = linear((pitch, row), text.name(op.zero_column))
        out.line(f"const float zero = {tile}.load({at});")
        out.line(f"const float next = {tile}.load({linear(at, pitch)});")
        for place, offset in enumerate(program.offsets):
            values = ", ".join(
                f"{number(offset.base)} + {number(offset.times)} * {name}"
                for name in ("zero", "next")
            )
            pair = f"{program.operand.name}x2_from_f32({values})"
            out.line(f"offsets[{place}][{half}] = {pair};")
    return "offsets"


def _row_offsets(text: WarpText, op: Any, program: DecodeProgram, strip: str) -> str:
    """Arguments made of the zero points of both halves of the strip's rows."""
    out = text.out
    out.line(f"u32 offsets[{len(program.offsets)}][2];")
    tile, pitch = f"{text.name(op.zeros)}({text.stage})", row_pitch(op.zeros.type)
    with out.loop("half", 2) as half:
        row = linear((16, text.name(op.first)), (16, strip), "lane / 4", (8, half))
        column = text.name(op.zero_column)
        row, column = (row, column) if op.zero_along.value == "column" else (column, row)
        at, whole = linear((pitch, row), column), not program.operand.is_float
        out.line(f"const {'s32' if whole else 'float'} zero = {tile}.load({at});")
        for place, offset in enumerate(program.offsets):
            value = f"{number(offset.base)} + {number(offset.times)} * zero"
            made = f"{program.operand.name}x2_from_f32({value}, {value})"
            if whole:
                made = f"u32({linear((offset.times, 'zero'), int(offset.base))}) * 0x01010101"
            out.line(f"offsets[{place}][{half}] = {made};")
    return "offsets"

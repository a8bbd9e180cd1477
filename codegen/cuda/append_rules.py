"""Rules for what appends rows to a cache: rows moved, and codes put into packets."""

from __future__ import annotations

from typing import Any

from ...dialects.formats import parse_spelling
from ...dialects.formats.packets import (
    CODES_PER_LANE,
    LANES,
    PACKET_COLUMNS,
    PACKET_ROWS,
    PacketOrder,
    WordPlane,
    word_planes,
)
from ...dialects.tile.decode_rules import decode_program
from ...dialects.tile.dialect import tensor_of
from ...dialects.tile.warp_memory import placed_tiles
from .printer import bits, linear
from .warp_text import WarpText


def sync(text: WarpText, _: Any) -> None:
    """Warp groups read shared memory past the threads, which a fence has to tell."""
    if placed_tiles(text.op):
        text.out.line("fence_async_proxy();")
    text.out.line("sync_threads();")


def move(text: WarpText, op: Any) -> None:
    """An element a thread at a time."""
    out, columns = text.out, tensor_of(op.source.type).shape[1]
    source, target = text.name(op.source), text.name(op.target)
    kinds = [str(tensor_of(each.type).element_type) for each in (op.source, op.target)]
    out.line()
    out.comment(f"Rows of {source} to {target}")
    count = text.name(op.count) + (f" * {columns}" if columns > 1 else "")
    with out.block(f"for (int i = thread; i < {count}; i += {text.threads})"):
        first, to = (text.name(each) for each in (op.first, op.to))
        row = f"i / {columns}" if columns > 1 else "i"
        from_ = linear((columns, f"s64({first})"), "i")
        value = f"{source}.load({from_})"
        if op.flags is not None:
            value = _wide(value, kinds[0])
            value = f"{value} + {text.name(op.flags)}.load({to} + {row})"
            value = value if kinds[1] == "f32" else f"{kinds[1]}_from_f32({value})"
        elif kinds[0] != kinds[1]:
            value = _wide(value, kinds[0])
            value = value if kinds[1] == "f32" else f"{kinds[1]}_from_f32({value})"
        out.line(f"{target}.store({linear((columns, f's64({to})'), 'i')}, {value});")


def _wide(value: str, kind: str) -> str:
    return value if kind == "f32" else f"f32_from_{kind}({value})"


def repack(text: WarpText, op: Any) -> None:
    """A lane's 32 codes of a packet for each thread; those at new positions change."""
    fmt = parse_spelling(op.format.value)
    program = decode_program(fmt, op.operand.value)
    order, by_row = program.order, op.strips.value == "rows"
    out, depth = text.out, op.depth.value
    units = -(-depth // PACKET_COLUMNS) if by_row else 1
    strips = PACKET_COLUMNS // PACKET_ROWS if by_row else -(-depth // PACKET_ROWS)
    words, target = LANES * fmt.bits, text.name(op.target)
    pitch = tensor_of(op.target.type).shape[1]
    out.line()
    out.comment(f"Codes of {fmt.bits} bits into packets of {PACKET_ROWS} x {PACKET_COLUMNS}")
    total = strips * units * LANES
    with out.block(f"for (int piece = thread; piece < {total}; piece += {text.threads})"):
        out.line(f"const int lane = piece % {LANES}, packet = piece / {LANES};")
        out.line(f"const int strip = packet / {units}, unit = packet % {units};"
                 if units > 1 else "const int strip = packet;")  # fmt: skip
        row = text.name(op.row)
        place = f"s64({row} + strip) * {pitch}" if by_row else f"s64({row}) * {pitch}"
        within = (words, "unit" if units > 1 else "0") if by_row else (words, "strip")
        out.line(f"const auto words_at = {target}.at({linear(place, within)});")
        out.line(f"u32 words[{fmt.bits}];")
        planes = word_planes(order, fmt.bits)
        for word in range(fmt.bits):
            out.line(f"words[{word}] = words_at.load({_word_place(planes, word)});")
        registers, e = CODES_PER_LANE // order.per_register, order.per_register
        with (
            out.loop("value", registers) as value,
            out.loop("element", e) as element,
        ):
            n = linear("lane / 4", (8, f"({value} / 2 % 2)"))
            k = linear((8 * e, f"({value} / 4)"), (4 * e, f"({value} % 2)"),
                       (e, "(lane % 4)"), element)  # fmt: skip
            _code(text, op, n, k, units)
            for plane in planes:
                _insert(text, order, plane, value, element)
        for word in range(fmt.bits):
            out.line(f"words_at.store({_word_place(planes, word)}, words[{word}]);")


def _word_place(planes: tuple[WordPlane, ...], word: int) -> str:
    plane = next(p for p in planes if p.low <= word < p.low + p.bits)
    index = word - plane.low
    return linear((plane.at_once, "lane"), plane.offset(0, index))


def _code(text: WarpText, op: Any, n: str, k: str, units: int) -> None:
    """Declares `code`, and leaves the round where there is no new one."""
    out, by_row = text.out, op.strips.value == "rows"
    position = linear((PACKET_ROWS, "strip"), n) if by_row else k
    column = (linear((PACKET_COLUMNS, "unit"), k) if units > 1 else k) if by_row \
        else linear((PACKET_ROWS, "strip"), n)  # fmt: skip
    begin, end = text.name(op.begin), text.name(op.end)
    out.line(f"const int position = {position};")
    out.line(f"const int column = {column};")
    out.line(
        f"if (position < {begin} || position >= {end} || column >= {op.depth.value}) continue;"
    )
    source = text.name(op.source)
    row = f"s64({text.name(op.first)} + position - {begin}) * {op.depth.value}"
    flag = f"{text.name(op.flags)}.load({text.name(op.flag_row)} + position)"
    out.line(f"const u32 code = {flag} == 0.0f ? {source}.load({row} + column) : 0;")


def _insert(text: WarpText, order: PacketOrder, plane: WordPlane, value: str, element: str) -> None:
    """The plane's bits of the code to their place among a lane's words."""
    registers, e, p = plane.registers, order.per_register, plane.bits
    word = linear(f"{value} / {registers}" if registers > 1 else value, plane.low)
    within = f"({value} % {registers})" if registers > 1 else "0"
    if order.pairs:
        place = linear((p * e, within), (p, element))
    else:
        place = linear((p, within), (32 // e, element))
    mask = bits((1 << p) - 1)
    moved = f"code >> {plane.low}" if plane.low else "code"
    code = f"({moved} & {mask})"
    text.out.line(
        f"words[{word}] = (words[{word}] & ~({mask}u << ({place}))) | {code} << ({place});"
    )


RULES = {"tile.sync": sync, "tile.move": move, "tile.repack": repack}

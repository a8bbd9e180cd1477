"""Rules for accumulators whose rows become columns: lanes exchange what they hold."""

from __future__ import annotations

from typing import Any

from .warp_text import Shape, WarpText


def turn(text: WarpText, op: Any) -> None:
    """Matrices of 8 x 8: two of a strip and tile, of which a lane has two columns each."""
    out, given, shape = text.out, Shape.of(op.fragment.type), Shape.of(op.result.type)
    source, name = text.name(op.fragment), text.label(op, "turned")
    text.names[op.result] = name
    out.line(f"{shape.declared(name)};")
    strips, tiles, _ = given.dimensions
    with out.loop("strip", strips) as strip, out.loop("tile", tiles) as tile, out.block(""):
        out.line(f"const auto& of = {source}[{strip}][{tile}];")
        out.line(f"auto& upper = {name}[{tile} / 2][2 * {strip}];")
        out.line(f"auto& lower = {name}[{tile} / 2][2 * {strip} + 1];")
        out.line(f"const int first = {tile} % 2 * 2;")
        TURNS[given.element](text, shape.c_type)


def _words(text: WarpText, kind: str) -> None:
    out = text.out
    for half, to in enumerate(("upper", "lower")):
        with out.block(""):
            out.line(f"{kind} pair[2] = {{of[{2 * half}], of[{2 * half + 1}]}};")
            out.line("turn(pair, lane);")
            out.line(f"{to}[first] = pair[0], {to}[first + 1] = pair[1];")


def _halves(text: WarpText, kind: str) -> None:
    for half, to in enumerate(("upper", "lower")):
        with text.out.block(""):
            word = f"of[{2 * half}] | u32(of[{2 * half + 1}]) << 16"
            text.out.line(f"const u32 pair = turned_halves({word}, lane);")
            text.out.line(f"{to}[first] = {kind}(pair), {to}[first + 1] = {kind}(pair >> 16);")


def _bytes(text: WarpText, kind: str) -> None:
    parts = " | ".join(f"u32({kind}(of[{i}])) << {8 * i}" for i in range(4))
    text.out.line(f"const u32 both = turned_bytes({parts}, lane);")
    text.out.line(f"upper[first] = {kind}(both), upper[first + 1] = {kind}(both >> 8);")
    text.out.line(f"lower[first] = {kind}(both >> 16), lower[first + 1] = {kind}(both >> 24);")


TURNS = {"f32": _words, "i32": _words, "f16": _halves, "bf16": _halves, "i8": _bytes}
RULES = {"tile.turn": turn}

"""Rules for results of convolutions: what lanes hold becomes pixels of images in memory."""

from __future__ import annotations

from typing import Any

from ...dialects.tile.warp_memory import PACKED_CHANNELS
from .image_rules import Window, address
from .printer import linear
from .warp_text import Shape, WarpText, scope

BYTE, NIBBLE = 8, 4


def save_image(text: WarpText, op: Any) -> None:
    """Row by row of each strip: the pixel of this lane, then its channels."""
    out = text.out
    strips, *_ = Shape.of(op.fragment.type).dimensions
    out.line()
    with out.loop("strip", strips) as strip, out.loop("half", 2) as half, out.block(""):
        (_find_in_rectangle if op.width.value else _find)(text, op, strip, half)
        if op.store.value == "words":
            _store_words(text, op, strip, half)
        else:
            _store_pairs(text, op, strip, half)


def _find(text: WarpText, op: Any, strip: str, half: str) -> None:
    """Declares `image`, `at` in it, and whether this lane's pixel is `inside`."""
    out, n, pixels = text.out, op.images.value, text.name(op.pixels)
    row = linear(text.name(op.row), (16, strip), "lane / 4", (8, half))
    out.line(f"const int pixel = {row};")
    if n == 1:
        out.line(f"const int image = pixel / {pixels}, at = pixel % {pixels};")
    else:
        out.line(f"const int image = pixel / ({n} * {pixels}) * {n} + pixel % {n};")
        out.line(f"const int at = pixel / {n} % {pixels};")
    out.line(f"const bool inside = pixel < {text.name(op.limit)};")


def _find_in_rectangle(text: WarpText, op: Any, strip: str, half: str) -> None:
    out, n, width = text.out, op.images.value, op.width.value
    row = linear(text.name(op.row), (16, strip), "lane / 4", (8, half))
    out.line(f"const int pixel = {row};")
    image = text.name(op.image) if n == 1 else f"{text.name(op.image)} * {n} + pixel % {n}"
    column = f"pixel % {width}" if n == 1 else f"pixel / {n} % {width}"
    out.line(f"const int image = {image};")
    out.line(f"const int oy = {linear(text.name(op.top), f'pixel / {width * n}')};")
    out.line(f"const int ox = {linear(text.name(op.left), column)};")
    across = text.name(op.out_width)
    out.line(f"const int at = oy * {across} + ox;")
    out.line(f"const bool inside = oy < {text.name(op.limit)} && ox < {across};")


def _window(op: Any) -> Window:
    """The layout of the target, its channels counted in elements of memory."""
    by = BYTE // op.bits.value if op.bits.value < BYTE else 1
    all_, block = op.all_channels.value // by, op.block.value // by
    return Window([], [], [], [], [], 0, all_, block, True, 1, 0, 1, op.target_images.value)


def _store_pairs(text: WarpText, op: Any, strip: str, half: str) -> None:
    """Two channels at once where they lie side by side."""
    out, bits = text.out, op.bits.value
    name, to, pixels = text.name(op.fragment), text.name(op.target), text.name(op.pixels)
    tiles = Shape.of(op.fragment.type).dimensions[1]
    with scope(text, tiles), out.loop("tile", tiles) as tile:
        out.line(f"const int j = {linear((8, tile), 'lane % 4 * 2')};")
        values = [f"{name}[{strip}][{tile}][{linear((2, half), side)}]" for side in range(2)]
        for side in range(1 if op.store.value == "pairs" else 2):
            channel = f"({linear(text.name(op.column), 'j', side)})"
            if bits == NIBBLE:
                channel = f"({channel} / 2)"
            place = address("s64(image)", channel, pixels, "", "at", _window(op))
            check = f"inside && {linear('j', side)} < {text.name(op.channels)}"
            if op.store.value != "pairs":
                store = f"{to}.store({place}, {values[side]});"
            elif bits == NIBBLE:
                store = f"{to}.store({place}, {_nibbles(values)});"
            else:
                store = f"{to}.store<{2 * bits // 8}>({place}, {_joined(values, bits // 8)});"
            out.line(f"if ({check}) {store}")


def _nibbles(values: list[str]) -> str:
    return f"u8(({values[0]} & 15) | {values[1]} << 4)"


def _joined(values: list[str], size: int) -> str:
    if size == 4:
        return f"Words<2>{{{{bits_of({values[0]}), bits_of({values[1]})}}}}"
    kind = "u32" if size == 2 else "u16"
    return f"{kind}({values[0]} | {'u32' if size == 2 else 'u16'}({values[1]}) << {8 * size})"


def _store_words(text: WarpText, op: Any, strip: str, half: str) -> None:
    """
    Eight neighbouring channels of one pixel, a word of nibbles or two of bytes.

    Four lanes have two channels each of four columns of eight; they exchange bytes, so that each
    lane has one column.
    """
    out, bits = text.out, op.bits.value
    name, to, pixels = text.name(op.fragment), text.name(op.target), text.name(op.pixels)
    count = Shape.of(op.fragment.type).dimensions[1] * 8 // PACKED_CHANNELS
    with scope(text, count), out.loop("quad", count) as quad:
        out.comment("Byte i is of column i; after the exchange, of lane i of four")
        pair = [
            [
                f"{name}[{strip}][{linear((4, quad), i)}][{linear((2, half), side)}]"
                for i in range(4)
            ]
            for side in range(2)
        ]
        if bits == NIBBLE:
            bytes_ = [
                f"u32({_nibbles([first, second])})" for first, second in zip(*pair, strict=True)
            ]
            out.line(f"const u32 packed = transposed_bytes({_bytes(bytes_)}, lane);")
            stored = "packed"
        else:
            for side, values in zip(("even", "odd"), pair, strict=True):
                packed = _bytes([f"u32({value})" for value in values])
                out.line(f"const u32 {side} = transposed_bytes({packed}, lane);")
            halves = (f"permute_bytes(even, odd, {order})" for order in ("0x5140", "0x7362"))
            stored = f"Words<2>{{{{{', '.join(halves)}}}}}"
        out.line(f"const int j = {linear((PACKED_CHANNELS, quad), 'lane % 4 * 8')};")
        channel = f"({linear(text.name(op.column), 'j')})"
        if bits == NIBBLE:
            channel = f"({channel} / 2)"
        place = address("s64(image)", channel, pixels, "", "at", _window(op))
        check = f"inside && j < {text.name(op.channels)}"
        out.line(f"if ({check}) {to}.store<{bits}>({place}, {stored});")


def _bytes(values: list[str]) -> str:
    return " | ".join(v if not i else f"{v} << {8 * i}" for i, v in enumerate(values))


RULES = {"tile.save_image": save_image}

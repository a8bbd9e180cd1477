"""Rules for images: windows of pixels gathered into shared memory, and results put back."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod
from typing import Any

from ...dialects.bindings import ir
from ...dialects.tile.dialect import element_bytes, tensor_of
from ...dialects.tile.warp_memory import row_pitch
from .copy_rules import COPY_BYTES, SMALLEST_COPY, Plan
from .printer import divided, linear
from .warp_text import Shape, WarpText

KEPT_TURNS = 8
"""Turns whose pixels are found once and kept in registers; of more, each time again."""


@dataclass(frozen=True)
class Window:
    """The attribute of `tile.patches`, read."""

    taps: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: list[int]
    channels: int
    all_channels: int
    block: int
    by_tap: bool
    vector: int
    k: int
    row_multiple: int

    @staticmethod
    def of(attribute: ir.DictAttr) -> Window:
        lists = ("taps", "stride", "padding", "dilation", "groups")
        numbers = ("channels", "all_channels", "block", "by_tap", "vector", "k", "row_multiple")
        found: dict[str, Any] = {
            name: list(ir.DenseI64ArrayAttr(attribute[name])) for name in lists
        }
        found |= {name: ir.IntegerAttr(attribute[name]).value for name in numbers}
        return Window(**found)


def goes_by_pixel(text: WarpText, op: Any) -> bool:
    """Whether neighbouring threads have neighbouring pixels: where channels lie apart."""
    rows = tensor_of(op.tile.type).shape[0]
    return plan_of(text, op).vector == 1 and text.threads % rows == 0


def plan_of(text: WarpText, op: Any) -> Plan:
    tile, window = tensor_of(op.tile.type), Window.of(op.window)
    widest = COPY_BYTES // element_bytes(tensor_of(op.source.type).element_type)
    vector = gcd(window.vector, widest, tile.shape[1])
    return Plan(tile.shape[0], tile.shape[1], vector, text.threads)


def declare_pixels(text: WarpText, op: Any) -> None:
    """The windows of this thread's rows: image, and the first row and column of it."""
    plan, out = plan_of(text, op), text.out
    name = text.name(op.source)
    if goes_by_pixel(text, op):
        for part in ("image", "top", "left"):
            out.line(f"int {name}_{part};")
        with out.block(""):
            _pixel(text, op, f"thread % {plan.rows}")
            for part in ("image", "top", "left"):
                out.line(f"{name}_{part} = {part};")
        return
    if plan.turns > KEPT_TURNS:
        return
    for part in ("image", "top", "left"):
        out.line(f"int {name}_{part}[{plan.turns}];")
    with out.loop("turn", plan.turns) as turn, out.block(""):
        _pixel(text, op, linear(plan.row, plan.row_step(turn)))
        for part in ("image", "top", "left"):
            out.line(f"{name}_{part}[{turn}] = {part};")


def _pixel(text: WarpText, op: Any, row: str) -> None:
    """Declares image, top and left; a row that is none lies far above its image."""
    out, window = text.out, Window.of(op.window)
    out.line(f"const int i = {row};")
    first, count = text.name(op.first), text.name(op.count)
    height, width = text.name(op.out_height), text.name(op.out_width)
    out.line(f"const int pixel = {linear(first, 'i')};")
    out.line(f"const int image = pixel / ({height} * {width});")
    out.line(f"const int oy = pixel / {width} % {height}, ox = pixel % {width};")
    top = f"oy * {window.stride[0]} - {window.padding[0]}"
    out.line(f"const int top = i < {count} ? {top} : -1 << 24;")
    out.line(f"const int left = ox * {window.stride[1]} - {window.padding[1]};")


def patches(text: WarpText, op: Any) -> None:
    """This thread's vectors: channels under one tap, or single elements."""
    out, plan, window = text.out, plan_of(text, op), Window.of(op.window)
    name = text.name(op.source)
    out.comment(f"{name}: windows of {window.taps[0]} x {window.taps[1]}, {plan.vector} at once")
    if goes_by_pixel(text, op):
        apart = text.threads // plan.rows
        for part in ("image", "top", "left"):
            out.line(f"const int {part} = {name}_{part};")
        out.line(f"const int i = thread % {plan.rows};")
        out.line("#pragma unroll 4")
        with out.block(f"for (int turn = 0; turn < {plan.columns // apart}; ++turn)"):
            _gather(text, op, window, linear((apart, "turn"), _shared_by(plan.rows, apart)))
            _move(text, op, 1, linear((row_pitch(op.tile.type), "i"), "j"))
        return
    if plan.turns <= KEPT_TURNS:
        with out.loop("turn", plan.turns) as turn, out.block(""):
            for part in ("image", "top", "left"):
                out.line(f"const int {part} = {name}_{part}[{turn}];")
            out.line(f"const int i = {linear(plan.row, plan.row_step(turn))};")
            _vector(text, op, plan, window, turn)
        return
    out.line("#pragma unroll 2")
    with out.block(f"for (int turn = 0; turn < {plan.turns}; ++turn)"):
        _pixel(text, op, linear(plan.row, plan.row_step("turn")))
        _vector(text, op, plan, window, "turn")


def _shared_by(rows: int, apart: int) -> str:
    return "0" if apart == 1 else f"thread / {rows}"


def _vector(text: WarpText, op: Any, plan: Plan, window: Window, turn: str) -> None:
    _gather(text, op, window, linear(plan.column, plan.column_step(turn)))
    whole = [plan.idle(), f"i < {plan.rows}" * bool(plan.rows % plan.rows_at_once)]
    guard = " && ".join(filter(None, whole))
    with text.out.block(f"if ({guard})" if guard else ""):
        _move(text, op, plan.vector, linear((row_pitch(op.tile.type), "i"), "j"))


def _gather(text: WarpText, op: Any, window: Window, column: str) -> None:
    """Declares where column `column` of the window of row i comes from, and whether it does."""
    out, k = text.out, text.name(op.k)
    out.line(f"const int j = {column};")
    out.line(f"const int stored = {linear(k, 'j')};")
    bounds = [f"stored < {window.k}"]
    at = "stored"
    if window.groups:
        size, padded = window.groups
        at = f"stored / {padded} * {size} + stored % {padded}"
        bounds.append(f"stored % {padded} < {size}")
    taps = prod(window.taps)
    out.line(f"const int at = {at};")
    inner = window.channels if window.by_tap else taps
    tap, channel = (f"at / {inner}", f"at % {inner}")
    if not window.by_tap:
        tap, channel = channel, tap
    out.line(f"const int tap = {tap if taps > 1 else '0'};")
    out.line(f"const int channel = {linear(text.name(op.first_channel), channel)};")
    out.line(f"const int at_y = top + {_step('tap / ' + str(window.taps[1]), window.dilation[0])};")
    out.line(
        f"const int at_x = left + {_step('tap % ' + str(window.taps[1]), window.dilation[1])};"
    )
    height, width = text.name(op.height), text.name(op.width)
    bounds += [f"u32(at_y) < u32({height})", f"u32(at_x) < u32({width})"]
    out.line(f"const bool inside = {' && '.join(bounds)};")
    more = window.row_multiple
    pitch = width if more == 1 else f"({linear(width, more - 1)}) / {more} * {more}"
    place = address("image", "channel", f"s64({height})", f" * ({pitch}) + at_x", "at_y", window)
    out.line(f"const s64 from = inside ? {place} : 0;")


def _step(tap: str, dilation: int) -> str:
    return tap if dilation == 1 else f"{tap} * {dilation}"


def address(image: str, channel: str, height: str, along: str, row: str, window: Window) -> str:
    """Where an element lies: blocks of channels, then rows and columns, then channels."""
    block, blocks = window.block, window.all_channels // window.block
    first = image if blocks == 1 else f"({image} * {blocks} + {divided(channel, block)})"
    pixel = f"(({first} * {height} + {row}){along})"
    if block == 1:
        return pixel
    return f"{pixel} * {block} + {channel if blocks == 1 else f'{channel} % {block}'}"


def _move(text: WarpText, op: Any, vector: int, to: str) -> None:
    out, name = text.out, text.name(op.source)
    source, tile = (str(tensor_of(each.type).element_type) for each in (op.source, op.tile))
    target, size = f"{text.name(op.tile)}(stage)", vector * element_bytes(ir.Type.parse(tile))
    if source != tile and vector == 1:
        value = f"{tile}_from_f32({name}.load(from))"
        out.line(f"{target}.store({to}, inside ? {value} : u16(0));")
    elif source != tile:
        out.line(f"Words<{vector}> wide = {{}};")
        out.line(f"if (inside) wide = {name}.load<{4 * vector}>(from);")
        pairs = [f"{tile}x2_from_f32(float_of(wide[{i}]), float_of(wide[{i + 1}]))"
                 for i in range(0, vector, 2)]  # fmt: skip
        words = pairs[0] if len(pairs) == 1 else f"{{{', '.join(pairs)}}}"
        out.line(f"{target}.store<{2 * vector}>({to}, {words});")
    elif size < SMALLEST_COPY:
        access = f"<{size}>" if vector > 1 else ""
        out.line(f"{target}.store{access}({to}, inside ? {name}.load{access}(from) : 0);")
    else:
        out.line(f"copy_async<{size}>({target}.at({to}), {name}.at(from), inside ? {size} : 0);")


def save_image(text: WarpText, op: Any) -> None:
    """Two channels at once where they lie side by side."""
    out, shape = text.out, Shape.of(op.fragment.type)
    name, to = text.name(op.fragment), text.name(op.target)
    block, all_ = op.block.value, op.all_channels.value
    size = element_bytes(tensor_of(op.target.type).element_type)
    window = Window([], [], [], [], [], 0, all_, block, True, 1, 0, 1)
    pairs = op.operation.attributes["pairs"].value if "pairs" in op.operation.attributes else False
    strips, tiles, _ = shape.dimensions
    pixels = text.name(op.pixels)
    out.line()
    with out.loop("strip", strips) as strip, out.loop("half", 2) as half, out.block(""):
        row = linear(text.name(op.row), (16, strip), "lane / 4", (8, half))
        out.line(f"const int pixel = {row};")
        out.line(f"const int image = pixel / {pixels}, at = pixel % {pixels};")
        out.line(f"const bool inside = pixel < {text.name(op.limit)};")
        with out.loop("tile", tiles) as tile:
            out.line(f"const int j = {linear((8, tile), 'lane % 4 * 2')};")
            values = [f"{name}[{strip}][{tile}][{linear((2, half), side)}]" for side in range(2)]
            for side in range(1 if pairs else 2):
                channel = f"({linear(text.name(op.column), 'j', side)})"
                place = address("s64(image)", channel, pixels, "", "at", window)
                check = f"inside && {linear('j', side)} < {text.name(op.channels)}"
                if pairs:
                    store = f"{to}.store<{2 * size}>({place}, {_joined(values, size)});"
                else:
                    store = f"{to}.store({place}, {values[side]});"
                out.line(f"if ({check}) {store}")


def _joined(values: list[str], size: int) -> str:
    if size == 4:
        return f"Words<2>{{{{bits_of({values[0]}), bits_of({values[1]})}}}}"
    kind = "u32" if size == 2 else "u16"
    return f"{kind}({values[0]} | {'u32' if size == 2 else 'u16'}({values[1]}) << {8 * size})"


RULES = {"tile.save_image": save_image}

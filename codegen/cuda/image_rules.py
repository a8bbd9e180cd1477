"""Rules for images: windows of pixels gathered into shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod
from typing import Any

from ...dialects.bindings import ir
from ...dialects.tile.dialect import element_bytes, tensor_of
from .copy_rules import COPY_BYTES, SMALLEST_COPY, Plan
from .printer import divided, grouped, linear
from .warp_memory_rules import place_of
from .warp_text import WarpText

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
    images: int = 1

    @staticmethod
    def of(attribute: ir.DictAttr) -> Window:
        lists = ("taps", "stride", "padding", "dilation", "groups")
        numbers = (
            "channels", "all_channels", "block", "by_tap", "vector", "k", "row_multiple", "images",
        )  # fmt: skip
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
    first = text.name(op.first)
    height, width = text.name(op.out_height), text.name(op.out_width)
    out.line(f"const int pixel = {linear(first, 'i')};")
    of_image, image = f"({grouped(height)} * {grouped(width)})", "pixel"
    oy, ox = f"pixel / {grouped(width)} % {grouped(height)}", f"pixel % {grouped(width)}"
    n = window.images
    if n > 1:
        of_image = f"({n} * {grouped(height)} * {grouped(width)})"
        oy, ox = (
            f"pixel / ({n} * {grouped(width)}) % {grouped(height)}",
            f"pixel / {n} % {grouped(width)}",
        )
    block = linear(f"pixel / {of_image}", *([text.name(op.image)] if op.image else []))
    image = f"{grouped(block)} * {n} + pixel % {n}" if n > 1 else block
    out.line(f"const int image = {image};")
    out.line(f"const int oy = {oy}, ox = {ox};")
    top = [(window.stride[0], "oy"), *([text.name(op.top)] if op.top else [])]
    left = [(window.stride[1], "ox"), *([text.name(op.left)] if op.left else [])]
    ends = [linear(*side) + (f" - {pad}" if pad else "")
            for side, pad in zip((top, left), window.padding, strict=True)]  # fmt: skip
    out.line(f"const int top = i < {text.name(op.count)} ? {ends[0]} : -1 << 24;")
    out.line(f"const int left = {ends[1]};")


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
            _move(text, op, 1, place_of(op.tile.type))
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
        _move(text, op, plan.vector, place_of(op.tile.type))


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
    """Where an element lies: blocks of channels, rows and columns, images of a block, channels."""
    block, blocks, n = window.block, window.all_channels // window.block, window.images
    inner = f"{image} % {n}"
    image = image if n == 1 else f"({image} / {n})"
    first = image if blocks == 1 else f"({image} * {blocks} + {divided(channel, block)})"
    pixel = f"(({first} * {height} + {row}){along})"
    if n > 1:
        pixel = f"({pixel} * {n} + {inner})"
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

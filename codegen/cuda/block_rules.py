"""Rules for what a block makes: its tile, or its loop over tiles, and its steps of K."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...dialects.tile.control import UNBOUNDED
from .kernel_text import KernelText
from .printer import divided, linear

Rule = Callable[[KernelText, Any], None]


def declare_place(text: KernelText) -> None:
    """Which tile the block of a grid over tiles makes, where it is not the block's own place."""
    s = text.schedule
    if s.raster and not s.persistent:
        text.out.comment(f"Blocks that run together share channels, and {s.raster} tiles of tokens")
        tile = "blockIdx.y * gridDim.x + blockIdx.x"
        text.out.line(
            f"const TilePlace place = tile_place({tile}, gridDim.x, gridDim.y, {s.raster});"
        )


def block_tiles(text: KernelText, op: Any) -> None:
    """How many tiles there are; of stream-K also this block's share of the steps of all."""
    out, s, steps, strips = text.out, text.schedule, op.steps.value, text.strips
    out.comment(f"Tiles of the result, each {steps} steps of K")
    out.line(f"const int token_tiles = {tiles_of_tokens(text)};")
    out.line(f"const int tiles = {linear((strips, 'token_tiles'))};")
    if not s.stream_k:
        names = "blockIdx.x", "tiles", "gridDim.x"
    else:
        out.comment("This block's share of the steps of all tiles, one tile after the other")
        out.line(f"const int units = {linear((steps, 'tiles'))}, blocks = gridDim.x;")
        out.line("const Shares shares = {units / blocks, units % blocks};")
        out.line("const int begin = shares.first(blockIdx.x), end = shares.first(blockIdx.x + 1);")
        last = f"(end + {steps - 1}) / {steps}" if steps > 1 else "end"
        names = divided("begin", steps), last, "1"
    text.names.update(zip((op.first, op.last, op.stride), names, strict=True))


def tiles_of_tokens(text: KernelText) -> str:
    tokens = text.schedule.tokens
    return f"(tokens + {tokens - 1}) / {tokens}" if tokens > 1 else "tokens"


@contextmanager
def tile_loop(text: KernelText, op: Any) -> Iterator[None]:
    """The loop of a persistent block, with the place of each tile."""
    out, raster = text.out, text.schedule.raster
    first, last, stride = (text.name(operand) for operand in list(op.operation.operands)[:3])
    text.names[op.induction_variable] = "tile"
    advance = "++tile" if stride == "1" else f"tile += {stride}"
    with out.block(f"for (int tile = {first}; tile < {last}; {advance})"):
        place = "{tile % token_tiles, tile / token_tiles}"
        if raster:
            place = f"tile_place(tile, token_tiles, {text.strips}, {raster})"
        out.line(f"const TilePlace place = {place};")
        yield


def block_offset(text: KernelText, op: Any) -> None:
    s, axis = text.schedule, op.axis.value
    name, size, index, part = {
        "n": ("n0", s.channels, "blockIdx.y", "strip"),
        "m": ("m0", s.tokens, "blockIdx.x", "column"),
    }[axis]
    offsets = [each for each in op.operation.block if each.operation.name == "tile.block_offset"]
    if op != next(each for each in offsets if each.axis.value == axis):
        name = f"own_{name}"  # where the last tile would begin if it were cut
    text.names[op.offset] = name
    if s.raster or s.persistent:
        index = f"place.{part}"
    first, most = f"{size} * {index}", op.most.value
    bounded = first if most == UNBOUNDED else f"minimum(int({first}), {most})"
    text.out.line(f"const int {name} = {bounded};")


def block_range(text: KernelText, op: Any) -> None:
    """All of K, or a share of its steps."""
    out, s = text.out, text.schedule
    extent, step = op.extent.value, op.step.value
    steps = -(-extent // step)
    text.names[op.first], text.names[op.last] = "first", "last"
    if s.stream_k:
        out.comment(f"Of the tile's {steps} steps of {step} columns those of this block's share")
        out.line(f"const int first_unit = {linear((steps, 'tile'))};")
        out.line(f"const int first = begin > first_unit ? {step} * (begin - first_unit) : 0;")
        cut = f"end < first_unit + {steps}"
        out.line(f"const int last = {cut} ? {step} * (end - first_unit) : {extent};")
    elif s.splits == 1:
        out.line(f"constexpr int first = 0, last = {extent};")
    else:
        out.comment(f"This block's share of K: of {steps} steps of {step} columns")
        out.line(f"const int first = {step} * int({steps} * blockIdx.z / {s.splits});")
        last = f"{step} * int({steps} * (blockIdx.z + 1) / {s.splits})"
        out.line(f"const int last = minimum({extent}, {last});")


def loop(text: KernelText, op: Any, rules: dict[str, Rule]) -> None:
    """Tile after tile, of blocks whose threads all fetch and multiply."""
    with tile_loop(text, op):
        text.out.line("sync_threads();  // everybody is done with the tile before")
        for each in op.body.operations:
            rules[each.operation.name](text, each)

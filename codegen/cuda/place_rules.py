"""The rule that puts a decoded operand into shared memory, where warp groups multiply it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from ...dialects.formats.packets import PACKET_COLUMNS, PACKET_ROWS
from ...dialects.tile.dialect import tensor_of
from .copy_rules import COPY_BYTES
from .kernel_text import c_type
from .printer import linear
from .unpack_rules import decoded
from .warp_text import WarpText, scope

STEP = 16  # columns of f16 or bf16 that one step of the instruction multiplies
CHUNK = COPY_BYTES // 2
"""Elements that lie together in a box of 128 bytes; the row says in which order (dialect.py)."""


def place(text: WarpText, op: Any) -> None:
    """Packet after packet, each decoded by one warp, into boxes of 128 bytes of the rows."""
    out, tensor = text.out, tensor_of(op.tile.type)
    rows, columns = tensor.shape
    kind = c_type(tensor.element_type)
    name = text.names[op.tile] = text.label(op, "operand")
    strips, packets = rows // PACKET_ROWS, rows * columns // (PACKET_ROWS * PACKET_COLUMNS)
    out.line()
    out.comment(f"{name}: {rows} x {columns} of {tensor.element_type}, decoded by all warps")
    out.line(f"const Shared<{kind}> {name}({text.offsets[op.tile]}, {rows * columns});")
    turns = -(-packets // text.warps)
    with scope(text, turns), out.loop("turn", turns) as turn:
        out.line(f"const int piece = {linear('thread / 32', (text.warps, turn))};")
        idle = packets % text.warps
        with out.block(f"if (piece < {packets})") if idle else nullcontext():
            _packet(text, op, strips, packets > strips)


def _packet(text: WarpText, op: Any, strips: int, wide: bool) -> None:
    """Packet `piece` of a tile of so many strips, which is `wide` if they have several."""
    out, name, rows = text.out, text.name(op.tile), tensor_of(op.tile.type).shape[0]
    strip, box = ("strip", "box") if wide else ("piece", "0")
    if wide:
        out.line(f"const int strip = piece % {strips}, box = piece / {strips};")
    right = decoded(text, text.lazy[op.fragment], (strip, box), "0", PACKET_COLUMNS)
    out.line(f"const int row = {linear((PACKET_ROWS, strip), 'lane / 4')};")
    with out.loop("step", PACKET_COLUMNS // STEP) as step, out.loop("i", 4) as i:
        chunk = f"({linear((2, step), f'{i} / 2')} ^ lane / 4)"
        at = linear((rows * PACKET_COLUMNS, box), (PACKET_COLUMNS, "row"),
                    (8 * PACKET_COLUMNS, f"({i} % 2)"), (CHUNK, chunk), "lane % 4 * 2")  # fmt: skip
        out.line(f"{name}.store<4>({at}, {right(step)}[{i}]);")

"""
Rules for products of warp groups in warp kernels (sm_90a): 64 rows, 16 of each of four warps.

The left operand is in registers, or decoded to registers from packets of codes; the right one in
shared memory, in boxes of 128 bytes of its rows: as rows of K, or, of an operand that is
"transposed", as columns of K.
"""

from __future__ import annotations

from typing import Any

from ...dialects.tile.dialect import BANK_ROW, element_bytes, tensor_of
from ...dialects.tile.fragments import INSTRUCTIONS
from .printer import divided, grouped, linear
from .unpack_rules import decoded_strip
from .warp_text import Shape, WarpText, scope


def multiply_by_groups(text: WarpText, op: Any) -> None:
    """A strip of each warp and all columns at once, a step of K at a time."""
    out, given = text.out, text.lazy[op.b]
    total = text.names[op.result] = text.name(op.accumulator)
    record = INSTRUCTIONS[op.instruction.value]
    turned = given.order.value == "transposed"
    function = record.function + ("_columns" if turned else "")
    steps = Shape.of(op.b.type).dimensions[1]
    first = divided(text.name(op.k), record.k) if text.name(op.k) != "0" else "0"
    strips, packed = Shape.of(op.a.type).dimensions[0], text.lazy.get(op.a)  # tile.unpack
    with scope(text, strips), out.loop("left_strip", strips) as strip:
        decoded = decoded_strip(text, packed, strip) if packed else None
        out.line("wgmma_fence();")
        with out.loop("step", steps) as step:
            held = f"{text.names[op.a]}[{strip}][{linear(first, step)}]"
            left = decoded(step) if decoded else held
            right = (_columns if turned else _rows)(text, given, step, record.k)
            out.line(f"{function}(whole({total}[{strip}]), {left}, {right});")
        out.line("wgmma_commit();")
    if text.awaits_products:
        out.line("wgmma_wait<0>();")


def _rows(text: WarpText, op: Any, step: str, k: int) -> str:
    """Rows of K: a step is some bytes of each row of a box."""
    tensor = tensor_of(op.tile.type)
    width = BANK_ROW // element_bytes(tensor.element_type)
    of_box = width // k
    step = _moved(step, text.name(op.column), k)
    within = "0" if step == "0" or of_box == 1 else f"({step} % {of_box})"
    at = linear((tensor.shape[0] * width, divided(step, of_box)), (k, within),
                (width, text.name(op.row)))  # fmt: skip
    return f"wgmma_operand<{BANK_ROW}>({text.tile(op.tile)}.at({at}))"


def _moved(step: str, column: str, k: int) -> str:
    """A step of an operand that begins at `column`, a multiple of a step."""
    if column == "0":
        return step
    return grouped(linear(divided(column, k), step))


def _columns(text: WarpText, op: Any, step: str, k: int) -> str:
    """Columns of K: a step is some rows of all boxes."""
    tensor = tensor_of(op.tile.type)
    width = BANK_ROW // element_bytes(tensor.element_type)
    at = linear((k * width, step), (width, text.name(op.row)))
    view = f"{text.tile(op.tile)}.at({at})"
    return f"wgmma_columns({view}, {tensor.shape[0] * BANK_ROW})"

"""
Rules for products of warp groups in warp kernels (sm_90a): 64 rows, 16 of each of four warps.

The left operand is in registers, the right one in shared memory, in boxes of 128 bytes of its rows:
as rows of K, or, of an operand that is "transposed", as columns of K.
"""

from __future__ import annotations

from typing import Any

from ...dialects.tile.dialect import BANK_ROW, element_bytes, tensor_of
from ...dialects.tile.fragments import INSTRUCTIONS
from .printer import divided, linear
from .warp_text import Shape, WarpText


def multiply_by_groups(text: WarpText, op: Any) -> None:
    """All columns of the result at once, a step of K at a time; then all of it is awaited."""
    out, given = text.out, text.lazy[op.b]
    total = text.names[op.result] = text.name(op.accumulator)
    record = INSTRUCTIONS[op.instruction.value]
    turned = given.order.value == "transposed"
    function = record.function + ("_columns" if turned else "")
    steps = Shape.of(op.b.type).dimensions[1]
    first = divided(text.name(op.k), record.k) if text.name(op.k) != "0" else "0"
    out.line("wgmma_fence();")
    with out.loop("step", steps) as step:
        left = f"{text.name(op.a)}[0][{linear(first, step)}]"
        right = (_columns if turned else _rows)(text, given, step, record.k)
        out.line(f"{function}(whole({total}), {left}, {right});")
    out.line("wgmma_commit();")
    out.line("wgmma_wait<0>();")


def _rows(text: WarpText, op: Any, step: str, k: int) -> str:
    """Rows of K: a step is some bytes of each row of a box."""
    tensor = tensor_of(op.tile.type)
    width = BANK_ROW // element_bytes(tensor.element_type)
    of_box = width // k
    within = "0" if step == "0" else f"({step} % {of_box})"
    at = linear((tensor.shape[0] * width, divided(step, of_box)), (k, within),
                (width, text.name(op.row)))  # fmt: skip
    return f"wgmma_operand<{BANK_ROW}>({text.name(op.tile)}({text.stage}).at({at}))"


def _columns(text: WarpText, op: Any, step: str, k: int) -> str:
    """Columns of K: a step is some rows of all boxes."""
    tensor = tensor_of(op.tile.type)
    width = BANK_ROW // element_bytes(tensor.element_type)
    at = linear((k * width, step), (width, text.name(op.row)))
    view = f"{text.name(op.tile)}({text.stage}).at({at})"
    return f"wgmma_columns({view}, {tensor.shape[0] * BANK_ROW})"

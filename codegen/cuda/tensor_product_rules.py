"""
Rules for the thread that multiplies in tensor memory: copies of scales, products, commits.

What it waits for and signals is told in tensor_rules.py.
"""

from __future__ import annotations

from typing import Any

from ...dialects.tile.dialect import BANK_ROW, element_bytes, tensor_of
from ...dialects.tile.tensor_memory import LANES
from ...dialects.tile.tensor_tiles import COPY_BYTES, COPY_COLUMNS, SCALES_AT_ONCE
from .kernel_text import KernelText
from .printer import divided, grouped, linear

PIECE = 32
"""Bytes of a row of K that an instruction multiplies."""


def multiply_all(text: KernelText, steps: Any, step: int) -> None:
    """Copies of scales and products of each stage, in the order of the program."""
    out, rescaled = text.out, loads_of(steps)
    count = ", step = 0" if rescaled else ""
    with out.block(f"for (int k = first, stage = 0, phase = 0{count}; k < last; k += {step})"):
        out.line("mbarrier_wait(ready.at(stage), phase);")
        if rescaled:
            out.line("if (step > 1) mbarrier_wait(taken.at(step & 1), step >> 1 & 1 ^ 1);")
        out.line("tensor_fence_after();")
        for op in steps.body.blocks[0].operations:
            if op.operation.name == "tile.tmem_copy":
                _copy_scales(text, op)
        _products(text, steps)
        out.line("tensor_commit(empty.at(stage));")
        if rescaled:
            out.line("tensor_commit(made.at(step & 1));")
            out.line("++step;")
        out.line(f"if (++stage == {text.schedule.stages}) stage = 0, phase ^= 1;")
    if not rescaled:
        out.line("tensor_commit(done);")


def _copy_scales(text: KernelText, op: Any) -> None:
    """512 bytes are four scales of 128 rows."""
    rows, blocks = tensor_of(op.source.type).shape
    copies = -(-rows // LANES) * blocks // SCALES_AT_ONCE
    with text.out.loop("piece", copies) as piece:
        to = linear(text.name(op.to), (COPY_COLUMNS, piece))
        from_ = f"{text.name(op.source)}(stage).at({linear((COPY_BYTES // 4, piece))})"
        text.out.line(f"tensor_copy_scales({to}, {from_});")
    text.names[op.scales] = text.name(op.to)


def _products(text: KernelText, steps: Any) -> None:
    out, s, record = text.out, text.schedule, text.schedule.record
    pieces = steps.step.value * record.operand_bits // 8 // PIECE
    count = steps.count.value
    products = [op for op in steps.body.blocks[0].operations
                if op.operation.name in ("tile.mma", "tile.mma_scaled")]  # fmt: skip
    kind = f"Tensor_kind::{record.kind}, {s.tokens}"
    out.comment(f"{len(products) * count * pieces} products, {record.k} columns of K each")
    with out.loop("chunk", count) as chunk, out.loop("piece", pieces) as piece:
        at = linear((pieces, chunk), piece)
        scale = _scale_byte(record, at)
        out.line(f"const u32 instruction = tensor_instruction<{kind}>({scale});")
        for index, op in enumerate(products):
            a, b = (_operand(text, each, at) for each in (op.a, op.b))
            scales = ""
            if record.block:
                scales = "".join(
                    f", {_scale_columns(text, each, at)}" for each in (op.a_scales, op.b_scales)
                )
            sums, add = text.name(steps.initial), _adds(index, piece)
            if op.operation.name == "tile.mma" and loads_of(steps):
                sums = buffer_of(text, op, count, chunk, "step & 1")
                add = f"{piece} > 0" if piece != "0" else "0"
            arguments = f"{sums}, {a}, {b}, instruction{scales}, {add}"
            out.line(f"{record.function}({arguments});")


def _adds(index: int, piece: str) -> str:
    """The first product of all overwrites what tensor memory holds."""
    if index:
        return "1"
    return "k > first" if piece == "0" else f"k > first || {piece} > 0"


def _scale_byte(record: Any, piece: str) -> str:
    """The byte of a word of scales with which those of a piece begin."""
    taken = record.k // record.block if record.block else SCALES_AT_ONCE
    if taken == SCALES_AT_ONCE or piece == "0":
        return ""
    return linear((taken, f"({grouped(piece)} % {SCALES_AT_ONCE // taken})"))


def _scale_columns(text: KernelText, scales: Any, piece: str) -> str:
    record = text.schedule.record
    rows = tensor_of(scales.type).shape[0]
    words = SCALES_AT_ONCE * record.block // record.k  # pieces that share a word
    return linear(text.name(scales), (COPY_COLUMNS * -(-rows // LANES), divided(piece, words)))


def _operand(text: KernelText, value: Any, piece: str) -> str:
    """Boxes of 128 bytes of K, all rows of each; in a box, pieces of 32 bytes."""
    if value.owner.name == "tile.load":  # as it was copied
        tile = value.owner.operands[0]
        tensor = tensor_of(tile.type)
        rows, width = tensor.shape[0], element_bytes(tensor.element_type)
    else:
        tile, rows, width = value, tensor_of(value.type).shape[0], 4
    of_box = BANK_ROW // PIECE
    box = divided(piece, of_box)
    within = f"({grouped(piece)} % {of_box})" if piece != "0" else "0"
    at = linear((rows * BANK_ROW // width, box), (PIECE // width, within))
    return f"tensor_operand<{BANK_ROW}>({text.name(tile)}(stage).at({at}))"


def buffer_of(text: KernelText, mma: Any, count: int, chunk: str, parity: str) -> str:
    """The first column of the sums of a chunk: those of two steps, in turn."""
    tokens = text.schedule.tokens
    sums = text.name(mma.operands[2])
    return linear(sums, (tokens * count, f"({parity})"), (tokens, chunk))


def loads_of(steps: Any) -> list[Any]:
    return [op for op in steps.body.blocks[0].operations
            if op.operation.name == "tile.tmem_load"]  # fmt: skip

"""
Rules for products of blocks with scales: a register of bytes for each row, beside the operands.

A lane whose number within four is 0 or 1 holds the scales of its row of weights, lane / 4 or 8
below it; every lane those of token lane / 4 (dialects/tile/fragments.py).
"""

from __future__ import annotations

from typing import Any

from ...dialects.tile.dialect import tensor_of
from .kernel_text import KernelText
from .printer import divided, linear

TWICE = {1: "0x0000", 2: "0x1100"}
"""Selectors that repeat each of so many bytes."""


def load_scales(text: KernelText, op: Any) -> None:
    """The scales of a step: of each strip of weights, or of each column of 8 tokens."""
    name = text.name(op.tile).replace("_tile", "_bytes")
    text.names[op.fragment] = name
    groups = text.schedule.record.k // op.group.value
    (_of_strips if op.side.value == "a" else _of_tokens)(text, op, name, groups)


def _of_strips(text: KernelText, op: Any, name: str, groups: int) -> None:
    """A row of the tile is a group, so that the bytes of a register lie rows apart."""
    out, s, channels = text.out, text.schedule, tensor_of(op.tile.type).shape[1]
    out.line(f"u32 {name}[{s.strips}];")
    with out.loop("strip", s.strips) as strip:
        at = linear((channels, _group(text, op)), "channel", (16, strip), "8 * (lane & 1)")
        of_row = f"{name}_of_row"
        out.line(f"const auto {of_row} = {text.stage_tile(op.tile)}.at({at});")
        loads = [
            f"u32({of_row}.load({channels * group}))" + (f" << {8 * group}" if group else "")
            for group in range(groups)
        ]
        out.line(f"{name}[{strip}] = {_repeated(op, ' | '.join(loads), groups)};")


def _of_tokens(text: KernelText, op: Any, name: str, groups: int) -> None:
    out, s = text.out, text.schedule
    rows, columns = tensor_of(op.tile.type).shape
    count = text.columns_at_once
    token = "lane / 4" if rows >= 8 else f"(lane / 4 & {rows - 1})"
    out.line(f"u32 {name}[{count}];")
    with out.loop("column", count) as column:
        row = [(8 * s.columns, text.warp("warp_m")), (8, text.walk.token), (8, column), token]
        scaled = [(columns * part[0], part[1]) if isinstance(part, tuple) else (columns, part)
                  for part in row]  # fmt: skip
        at = linear(*scaled, _group(text, op))
        access = f"{text.stage_tile(op.tile)}.load<{groups}>({at})"
        out.line(f"{name}[{column}] = {_repeated(op, access, groups)};")


def _group(text: KernelText, op: Any) -> str:
    """The group of a step's first column, among those of the tile."""
    walk, group = text.walk, op.group.value
    parts = [(64 // group, walk.packet), (walk.columns // group, walk.unit),
             (walk.depth // group, walk.step)]  # fmt: skip
    if op.first is None:
        return linear(*parts)
    return linear(divided(f"k - {text.name(op.first)}", group), *parts)


def _repeated(op: Any, value: str, groups: int) -> str:
    """Bytes of groups as bytes of blocks."""
    if op.group.value == op.block.value:
        return value
    return f"permute_bytes({value}, 0, {TWICE[groups]})"


def mma_scaled(text: KernelText, op: Any) -> None:
    out, s, walk = text.out, text.schedule, text.walk
    total = text.names[op.result] = text.name(op.accumulator)
    a, b = text.name(op.a), text.name(op.b)
    a_scales, b_scales = text.name(op.a_scales), text.name(op.b_scales)
    with out.loop("strip", s.strips) as strip:
        left = f"{a}[{strip}][{walk.step_of_unit}]"
        for column in range(text.columns_at_once):
            sums = f"{total}[{strip}][{linear(walk.token, column)}]"
            right = f"{{{b}[{2 * column}], {b}[{2 * column + 1}]}}"
            scales = f"{a_scales}[{strip}], {b_scales}[{column}]"
            out.line(f"{s.record.function}({sums}, {left}, {right}, {scales});")

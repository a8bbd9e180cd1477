"""Rules for the end of a tile: the epilogue, and the store."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Any

from ...dialects.bindings import ir
from ...dialects.tile.dialect import element_bytes, tensor_of
from ...dialects.tile.schedule_memory import PAD_BYTES
from .copy_rules import COPY_BYTES
from .kernel_text import KernelText, c_type
from .operand_rules import scaled
from .printer import linear, number


def map_(text: KernelText, op: Any) -> None:
    """Kept for the store, which walks over the elements."""
    text.element_body = op
    text.names[op.result] = text.name(op.fragment)


def store(text: KernelText, op: Any) -> None:
    """Through shared memory, so that rows of the result are written by neighbouring threads."""
    out, s, mapped = text.out, text.schedule, text.element_body
    tensor = tensor_of(op.fragment.type)
    kind, size = c_type(tensor.element_type), element_bytes(tensor.element_type)
    pitch = s.channels + PAD_BYTES // size
    out.line()
    out.comment(f"Epilogue: {s.channels} channels x {s.tokens} tokens, a row for each token")
    out.line(f"const Shared<{kind}> staged({text.plan.epilogue}, {s.padded_tokens * pitch});")
    with (
        out.block("if (warp_k == 0)" if s.warps_k > 1 else ""),
        out.loop("strip", s.strips) as strip,
        out.loop("half", 2) as half,
    ):
        out.line(f"const int i = {linear('channel', (16, strip), (8, half))};")
        names = _of_channel(text, mapped)
        with out.loop("token", s.columns) as token, out.loop("pair", 2) as pair:
            column = linear((8 * s.columns, text.warp("warp_m")), (8, token))
            out.line(f"const int j = {linear(column, 'lane % 4 * 2', pair)};")
            sum_ = text.sum(strip, token, linear((2, half), pair))
            result = _element(text, mapped, f"{text.name(op.fragment)}{sum_}", names)
            out.line(f"staged.store(j * {pitch} + i, {result});")
    out.line(text.sync)
    _write_rows(text, op, pitch, size)


def _of_channel(text: KernelText, mapped: Any) -> dict[Any, str]:
    """Prints what is the same for all tokens: numbers of the channel or of the whole tensor."""
    names: dict[Any, str] = {}
    for op in mapped.body.blocks[0].operations:
        if op.operation.name == "tile.yield":
            continue
        result = op.operation.results[0]
        if op.operation.name == "tile.read" and op.axis.value != "m":
            name = names[result] = f"{text.name(op.source)}_of_channel"
            text.out.line(f"const {c_type(result.type)} {name} = {_read(text, op, [])};")
        elif op.operation.name == "tile.scale" and op.stored in names:
            stored = names[op.stored]
            name = names[result] = f"decoded_{stored}"
            text.out.line(f"const float {name} = {_decoded(text, op, [stored])};")
    return names


def _write_rows(text: KernelText, op: Any, pitch: int, size: int) -> None:
    out, s = text.out, text.schedule
    target = text.name(op.target)
    row, column = (text.name(offset) for offset in op.offsets)
    rows, width = text.extents(op.target)
    vector = gcd(int(width), s.channels, COPY_BYTES // size)
    per_row, threads = s.channels // vector, s.workers
    with out.block(f"for (int piece = thread; piece < {s.tokens * per_row}; piece += {threads})"):
        out.line(f"const int j = piece / {per_row}, i = piece % {per_row} * {vector};")
        inside = f"{row} + j < {rows} && {column} + i < {width}"
        if op.first is not None:
            inside += f" && {column} + i >= {text.name(op.first)}"
        with out.block(f"if ({inside})"):
            bytes_ = vector * size
            to, at = f"s64({row} + j) * {width} + {column} + i", f"j * {pitch} + i"
            out.line(f"{target}.store<{bytes_}>({to}, staged.load<{bytes_}>({at}));"
                     if vector > 1 else f"{target}.store({to}, staged.load({at}));")  # fmt: skip


def _element(text: KernelText, mapped: Any, value: str, known: dict[Any, str]) -> str:
    """Prints the scalar ops of the body that are not `known`; the name of what it yields."""
    block = mapped.body.blocks[0]
    names = known | {block.arguments[0]: value}
    for op in block.operations:
        if op.operation.name == "tile.yield":
            return names[op.operation.operands[0]]
        given = [names.get(operand, "") for operand in op.operation.operands]
        result = op.operation.results[0]
        if result in known:
            continue
        expression = SCALAR_RULES[op.operation.name](text, op, given)
        if op.operation.name == "arith.constant":
            names[result] = expression
            continue
        name = names[result] = f"e{len(names)}"
        text.out.line(f"const {c_type(result.type)} {name} = {expression};")
    raise ValueError("the body of tile.map yields nothing")


def _read(text: KernelText, op: Any, _: list[str]) -> str:
    source, axis = text.name(op.source), op.axis.value
    if axis == "one":
        return f"{source}.load(0)"
    index = {"n": "n0 + i", "m": "m0 + j"}[axis]
    shape = tensor_of(op.source.type).shape
    extent = "tokens" if axis == "m" else str(shape[-1])
    return f"{index} < {extent} ? {source}.load({index}) : {c_type(op.element.type)}(0)"


def _decoded(_: KernelText, op: Any, given: list[str]) -> str:
    return scaled(op.kind.value, "multiply", given[0], 1.0)


def _narrow(_: KernelText, op: Any, given: list[str]) -> str:
    return f"{op.operation.results[0].type}_from_f32({given[0]})"


def _widen(_: KernelText, op: Any, given: list[str]) -> str:
    return f"f32_from_{op.operation.operands[0].type}({given[0]})"


def _constant(_: KernelText, op: Any, __: list[str]) -> str:
    return number(ir.FloatAttr(op.operation.attributes["value"]).value)


SCALAR_RULES: dict[str, Callable[[KernelText, Any, list[str]], str]] = {
    "tile.read": _read,
    "tile.scale": _decoded,
    "arith.constant": _constant,
    "arith.mulf": lambda _, __, given: f"{given[0]} * {given[1]}",
    "arith.addf": lambda _, __, given: f"{given[0]} + {given[1]}",
    "arith.divf": lambda _, __, given: f"{given[0]} / {given[1]}",
    "arith.sitofp": lambda _, __, given: f"f32_from_s32({given[0]})",
    "arith.truncf": _narrow,
    "arith.extf": _widen,
}

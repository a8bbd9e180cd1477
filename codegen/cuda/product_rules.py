"""Rules for products of warps: operands out of shared memory, and the instructions."""

from __future__ import annotations

from typing import Any

from ...dialects.bindings import ir
from ...dialects.tile.dialect import element_bytes, note_of, tensor_of
from ...dialects.tile.fragments import INSTRUCTIONS
from ...dialects.tile.warp_memory import BOXES, row_pitch
from .copy_rules import COPY_BYTES
from .group_product_rules import multiply_by_groups
from .printer import divided, linear
from .unpack_rules import decoded_strip
from .warp_text import Shape, WarpText, scope

STEP_BYTES = 32
"""Of a row that one step of an instruction multiplies, whatever its operands."""


def operand(text: WarpText, op: Any) -> None:
    """Where this lane points ldmatrix; the matrices are loaded where they are multiplied."""
    if note_of(op.tile.type) == BOXES:  # warp groups read it by themselves
        text.lazy[op.fragment] = op
        return
    name = text.names[op.fragment] = text.out.fresh(text.name(op.tile).replace("_tile", "_lane"))
    pitch = row_pitch(op.tile.type)
    row, column = text.name(op.row), text.name(op.column)
    if op.order.value == "transposed":
        lane = f"{pitch} * (lane % 8 + lane / 16 * 8) + lane / 8 % 2 * 8"
    else:
        lane = f"{pitch} * (lane % 16) + lane / 16 * {COPY_BYTES // _tile_bytes(op)}"
    at = linear((pitch, row), column, lane)
    text.out.line(f"const auto {name} = {text.name(op.tile)}({text.stage}).at({at});")
    text.lazy[op.fragment] = op
    shape = Shape.of(op.fragment.type)
    if shape.role == "a":
        _load_left(text, op, shape, name)


def _load_left(text: WarpText, op: Any, shape: Shape, lane: str) -> None:
    """A left operand, which products with several right ones share."""
    out, (strips, steps, _) = text.out, shape.dimensions
    name = text.names[op.fragment] = text.label(op, "left")
    out.line(f"{shape.declared(name)};")
    with out.loop("strip", strips) as strip, out.loop("step", steps) as step:
        at = linear((16 * row_pitch(op.tile.type), strip), (STEP_BYTES // _tile_bytes(op), step))
        out.line(f"load_matrix<4>({name}[{strip}][{step}], {lane}.at({at}));")


def _tile_bytes(op: Any) -> int:
    return element_bytes(tensor_of(op.tile.type).element_type)


def declare_windows(text: WarpText, op: Any) -> None:
    """Which pixel and which half of a step each lane names to ldmatrix, strip by strip."""
    out, images = text.out, op.images.value
    strips, *_ = Shape.of(op.fragment.type).dimensions
    down, right = ir.DenseI64ArrayAttr(op.stride)
    out.comment("Where this lane points ldmatrix under the first tap: its pixel, strip by strip")
    name = text.windows[op.tile] = out.fresh(f"{text.name(op.tile)}_of_lane")
    out.line(f"int {name}[{strips}];")
    with scope(text, strips), out.loop("strip", strips) as strip:
        out.line(f"const int pixel = {linear(text.name(op.row), (16, strip), 'lane % 16')};")
        y, x = (
            f"pixel / {op.width.value * images}",
            f"{divided('pixel', images)} % {op.width.value}",
        )
        place = linear((down * op.columns.value, y), (right, x))
        if images > 1:
            place = f"({place}) * {images} + pixel % {images}"
        half = f"lane / 16 * {COPY_BYTES // _tile_bytes(op)}"
        out.line(f"{name}[{strip}] = {row_pitch(op.tile.type)} * ({place}) + {half};")


def windows(text: WarpText, op: Any) -> None:
    """A left operand whose rows lie wherever their windows have a pixel."""
    out, shape = text.out, Shape.of(op.fragment.type)
    strips, steps, _ = shape.dimensions
    name = text.names[op.fragment] = text.label(op, "left")
    out.line(f"{shape.declared(name)};")
    tile = f"{text.name(op.tile)}({text.stage})"
    further = linear((row_pitch(op.tile.type), text.name(op.shift)), text.name(op.column))
    with out.loop("strip", strips) as strip, out.loop("step", steps) as step:
        at = linear(f"{text.windows[op.tile]}[{strip}]", further,
                    (STEP_BYTES // _tile_bytes(op), step))  # fmt: skip
        out.line(f"load_matrix<4>({name}[{strip}][{step}], {tile}.at({at}));")


def multiply(text: WarpText, op: Any) -> None:
    """A strip of 16 columns of the result at a time: both halves of a right operand."""
    if INSTRUCTIONS[op.instruction.value].of_warp_group:
        multiply_by_groups(text, op)
        return
    out, given = text.out, text.lazy[op.b]
    total = text.names[op.result] = text.name(op.accumulator)
    strips = tensor_of(op.b.type).shape[1] // 16
    steps = Shape.of(op.b.type).dimensions[1]
    packed = given.operation.name == "tile.unpack"
    with scope(text, strips), out.loop("right_strip", strips) as strip:
        right = decoded_strip(text, given, strip) if packed else lambda _: "right"
        with out.loop("step", steps) as step:
            if not packed:
                _loaded(text, given, strip, step)
            _products(text, op, total, strip, step, right(step))


def _products(text: WarpText, op: Any, total: str, strip: str, step: str, right: str) -> None:
    function = op.instruction.value.replace(".", "_")
    depth = 8 * Shape.of(op.a.type).per_register
    first = divided(text.name(op.k), depth) if text.name(op.k) != "0" else "0"
    with text.out.loop("strip", Shape.of(op.a.type).dimensions[0]) as left_strip:
        left = f"{text.name(op.a)}[{left_strip}][{linear(first, step)}]"
        for half in range(2):
            sums = f"{total}[{left_strip}][{linear((2, strip), half)}]"
            pair = f"{{{right}[{half}], {right}[{half + 2}]}}"
            text.out.line(f"{function}({sums}, {left}, {pair});")


def _loaded(text: WarpText, op: Any, strip: str, step: str) -> None:
    pitch, name = row_pitch(op.tile.type), text.name(op.fragment)
    width = STEP_BYTES // _tile_bytes(op)
    text.out.line("u32 right[4];")
    if op.order.value == "transposed":
        at = linear((16 * pitch, step), (16, strip))
        text.out.line(f"load_matrix<4, true>(right, {name}.at({at}));")
    else:
        at = linear((16 * pitch, strip), (width, step))
        text.out.line(f"load_matrix<4>(right, {name}.at({at}));")

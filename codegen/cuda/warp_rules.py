"""Rules for what the warps of a warp kernel compute, and in what order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from ...dialects.bindings import ir
from ...dialects.errors import UnsupportedError
from . import (
    append_rules,
    image_results,
    place_rules,
    product_rules,
    turn_rules,
    unpack_rules,
    warp_loops,
)
from . import warp_memory_rules as memory
from .printer import bare, linear
from .printer import number as literal
from .warp_numbers import number
from .warp_scalar_rules import SCALARS, expression
from .warp_text import REGISTER_TYPES, Place, Shape, WarpText, over, scope

INDICES = {"x": "blockIdx.x", "y": "blockIdx.y", "z": "blockIdx.z", "warp": "thread / 32"}


def apply_rule(text: WarpText, op: Any) -> None:
    name = op.operation.name
    if name in RULES:
        RULES[name](text, op)
    elif name in SCALARS:
        number(text, op)
    else:
        raise UnsupportedError(
            "cuda-no-rule", f"cuda: no rule for {name}", next_step="report the kernel's IR"
        )


def index(text: WarpText, op: Any) -> None:
    name = text.names[op.index] = text.label(op, op.axis.value)
    text.out.line(f"const int {name} = {INDICES[op.axis.value]};")


def fill(text: WarpText, op: Any) -> None:
    shape = Shape.of(op.fragment.type)
    name = text.names[op.fragment] = text.label(op, "filled")
    value = ir.FloatAttr(op.number).value
    if value == 0:
        text.out.line(f"{shape.declared(name)} = {'{}' if shape.dimensions else '0'};")
        return
    text.out.line(f"{shape.declared(name)};")
    with over(text, shape) as place:
        text.out.line(f"{name}{place.of} = {literal(value)};")


def each(text: WarpText, op: Any) -> None:
    """In place where nobody else reads what has the shape of the result."""
    out, shape = text.out, Shape.of(op.result.type)
    reused = _reused(op)
    if reused is not None:
        name = text.name(reused)
    else:
        name = text.label(op, "each")
        out.line(f"{shape.declared(name)};")
    text.names[op.result] = name
    assert op.condition is None or reused == op.otherwise
    guard = out.block(f"if ({bare(text.name(op.condition))})") if op.condition else nullcontext()
    with guard, over(text, shape) as place:
        out.line(f"{name}{place.of} = {bare(_body(text, op.body.blocks[0], place))};")


def _reused(op: Any) -> ir.Value | None:
    """A fragment of the result's type that only this op reads."""
    for at in op.body.blocks[0].operations:
        if at.operation.name != "tile.at" or at.fragment.type != op.result.type:
            continue
        users = [use.owner.operation for use in at.fragment.uses]
        if all(user == op.operation or user.parent == op.operation for user in users):
            return at.fragment
    return None


def _body(text: WarpText, block: Any, place: Place) -> str:
    """Prints the scalar ops of a body, one line for those that are used more than once."""
    for op in block.operations:
        if op.operation.name == "tile.yield":
            return text.name(op.operation.operands[0])
        result = op.operation.results[0]
        value = _scalar(text, op, place)
        uses = len(list(result.uses))
        if uses > 1 and not value.replace("_", "").isalnum():
            fresh = text.out.fresh("element")
            text.out.line(f"const {REGISTER_TYPES[str(result.type)]} {fresh} = {value};")
            value = fresh
        text.names[result] = value
    raise ValueError("the body of tile.each yields nothing")


def _scalar(text: WarpText, op: Any, place: Place) -> str:
    name = op.operation.name
    if name == "tile.at":
        return text.name(op.fragment) + place.at(Shape.of(op.fragment.type).role)
    if name == "tile.position":
        return place.row if op.axis.value == "row" else place.column
    if name == "tile.element":
        return f"{text.name(op.source)}.load({text.name(op.index)})"
    return expression(op, [text.name(each) for each in op.operation.operands])


def reduce(text: WarpText, op: Any) -> None:
    if op.axis.value == "warps":
        _over_warps(text, op)
        return
    out, shape = text.out, Shape.of(op.result.type)
    name = text.names[op.result] = text.label(op, op.kind.value)
    out.line(f"{shape.declared(name)};")
    source, given = text.name(op.fragment), Shape.of(op.fragment.type)
    tiles = given.dimensions[1] if given.role == "c" else given.dimensions[0]
    with scope(text, max(shape.dimensions, default=1)), over(text, shape) as place:
        elements = _along(source, given, place)
        first = elements("0", "0") if op.initial is None else text.name(op.initial) + place.of
        # The initial number is every lane's, so a sum takes it after the lanes have met.
        later = op.kind.value == "add" and op.initial is not None
        out.line(f"float reduced = {'0.0f' if later else first};")
        with out.loop("tile", tiles) as tile, out.loop("side", 2) as side:
            out.line(f"reduced = {_two(op.kind.value, 'reduced', elements(tile, side))};")
        for mask in (1, 2):
            other = f"shuffle_xor(reduced, {mask})"
            out.line(f"reduced = {_two(op.kind.value, 'reduced', other)};")
        out.line(f"{name}{place.of} = {f'{first} + reduced' if later else 'reduced'};")


def _along(source: str, given: Shape, place: Place) -> Callable[[str, str], str]:
    if given.role == "columns":
        return lambda tile, side: f"{source}[{tile}][{side}]"
    strip, half = place.indices
    return lambda tile, side: f"{source}[{strip}][{tile}][{linear((2, half), side)}]"


def _two(kind: str, a: str, b: str) -> str:
    return f"maximum({a}, {b})" if kind == "max" else f"{a} + {b}"


def _over_warps(text: WarpText, op: Any) -> None:
    """Through shared memory, in the order of the warps; copies have all landed."""
    out, shape = text.out, Shape.of(op.result.type)
    name, source = text.label(op, op.kind.value), text.name(op.fragment)
    text.names[op.result] = name
    count = 1
    for extent in shape.dimensions:
        count *= extent
    out.line()
    out.comment(f"The {op.kind.value} of {text.warps} warps, in their order")
    out.line("sync_threads();  // shared memory is free")
    with out.block(""):
        out.line(f"const Shared<float> exchanged(0, {32 * text.warps * count});")
        with over(text, shape) as place:
            at = linear((32 * text.warps, _number(shape, place)), "thread")
            out.line(f"exchanged.store({at}, {source}{place.of});")
    out.line("sync_threads();")
    out.line(f"{shape.declared(name)};")
    with out.block(""):
        out.line(f"const Shared<float> exchanged(0, {32 * text.warps * count});")
        with over(text, shape) as place:
            base = linear((32 * text.warps, _number(shape, place)), "lane")
            out.line(f"float reduced = exchanged.load({base});")
            with out.loop("other", text.warps, "1") as other:
                loaded = f"exchanged.load({linear(base, (32, other))})"
                out.line(f"reduced = {_two(op.kind.value, 'reduced', loaded)};")
            out.line(f"{name}{place.of} = reduced;")


def _number(shape: Shape, place: Place) -> str:
    """Which of a lane's elements it is."""
    found = "0"
    for extent, at in zip(shape.dimensions, place.indices, strict=True):
        found = linear((extent, found), at) if found != "0" else at
    return found if found.isdigit() else f"({found})"


def convert(text: WarpText, op: Any) -> None:
    """The elements of two accumulators of 8 columns are those of a left operand of 16."""
    out, shape = text.out, Shape.of(op.result.type)
    name = text.names[op.result] = text.label(op, "left")
    source, kind = text.name(op.fragment), shape.element
    out.line(f"{shape.declared(name)};")
    strips, steps, _ = shape.dimensions
    with (
        out.loop("strip", strips) as strip,
        out.loop("step", steps) as step,
        out.loop("value", 4) as value,
    ):
        out.line(f"const auto& of = {source}[{strip}][{linear((2, step), f'{value} / 2')}];")
        pair = f"of[{value} % 2 * 2], of[{value} % 2 * 2 + 1]"
        out.line(f"{name}[{strip}][{step}][{value}] = {kind}x2_from_f32({pair});")


RULES: dict[str, Callable[[WarpText, Any], None]] = {
    "tile.index": index,
    "tile.view": memory.view,
    "tile.rows": lambda text, op: None,
    "tile.patches": lambda text, op: None,
    "tile.pick": memory.pick,
    "tile.operand": product_rules.operand,
    "tile.windows": product_rules.windows,
    "tile.unpack": unpack_rules.unpack,
    "tile.place": place_rules.place,
    "tile.columns": memory.columns,
    "tile.multiply": product_rules.multiply,
    "tile.fill": fill,
    "tile.each": each,
    "tile.reduce": reduce,
    "tile.convert": convert,
    "scf.for": warp_loops.loop,
    "tile.save": memory.save,
    **append_rules.RULES,
    **image_results.RULES,
    **turn_rules.RULES,
}
"""`tile.rows` and `tile.patches` are printed by their loop, which says when."""

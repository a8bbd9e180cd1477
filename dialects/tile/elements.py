"""
What one element of a tensor is made of: the ops of linalg and tensor, read backwards.

    element i, j of linalg.generic   the body, on elements of its operands at map(i, j)
    element i, j of expand_shape     element 4 * i + j of its source
    element i, j of concat           an element of one operand, chosen by where j lies

So a kernel that computes one element computes a whole group of ops without storing what lies
between. Both the passes that form groups and the emitter go by these rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..affine import evaluate
from ..bindings import ir
from .extents import Extents, reassociation, slice_part, strides_of
from .index import ONE, ZERO, Index, delinearized, linearized

Place = tuple[Index, ...]


@dataclass(frozen=True)
class Moved:
    """The same as the element of `value` at `place`."""

    value: ir.Value
    place: Place


@dataclass(frozen=True)
class Condition:
    """left < right, or left >= right."""

    left: Index
    right: Index
    below: bool = True


@dataclass(frozen=True)
class Chosen:
    """The first case whose conditions all hold; the last case has none."""

    cases: tuple[tuple[tuple[Condition, ...], Moved], ...]


@dataclass(frozen=True)
class Computed:
    """What the body of a generic yields as `result` at the point `place` of its loops."""

    op: Any
    result: int
    place: Place


@dataclass(frozen=True)
class Folded:
    """
    The same of a generic with reductions: `place` has None for each of these loops.

    `extents` are those of all loops.
    """

    op: Any
    result: int
    place: tuple[Index | None, ...]
    extents: Place

    @property
    def outer(self) -> Place:
        return tuple(each for each in self.place if each is not None)

    @property
    def columns(self) -> Place:
        """Extents of the reductions."""
        return tuple(n for n, at in zip(self.extents, self.place, strict=True) if at is None)

    def at(self, inner: Sequence[Index]) -> Place:
        """The point of the loops where the reductions have the indices `inner`."""
        rest = iter(inner)
        return tuple(next(rest) if each is None else each for each in self.place)


Element = Moved | Chosen | Computed | Folded
Rule = Callable[[Any, int, Place, Extents], Element]


def element(value: ir.Value, place: Place, extents: Extents) -> Element | None:
    """Of what the element of a tensor at `place` is made; None of tensors that are stored."""
    owner: Any = value.owner
    if isinstance(owner, ir.Block):
        return None
    rule = RULES.get(owner.operation.name)
    if rule is None:
        return None
    return rule(owner, ir.OpResult(value).result_number, place, extents)


def is_splat(op: Any) -> bool:
    """Whether an op is a constant tensor of equal elements."""
    if op.operation.name != "arith.constant":
        return False
    value = op.attributes["value"]
    return isinstance(value, ir.DenseElementsAttr) and value.is_splat


def input_count(generic: Any) -> int:
    return ir.DenseI32ArrayAttr(generic.attributes["operandSegmentSizes"])[0]


def maps_of(generic: Any) -> list[ir.AffineMap]:
    return [ir.AffineMapAttr(each).value for each in generic.attributes["indexing_maps"]]


def reductions_of(generic: Any) -> list[bool]:
    return ["reduction" in str(kind) for kind in generic.attributes["iterator_types"]]


def at_point(affine_map: ir.AffineMap, point: Sequence[Index]) -> Place:
    """The element that an operand has at a point of the loops."""
    return tuple(evaluate(each, point, constant=Index.of) for each in affine_map.results)


def loop_extents(generic: Any, extents: Extents) -> Place:
    """How often each loop of a generic runs, from the operands that it indexes."""
    maps, found = maps_of(generic), dict[int, Index]()
    for affine_map, operand in zip(maps, generic.operands, strict=True):
        if not isinstance(operand.type, ir.RankedTensorType):
            continue
        for expression, extent in zip(affine_map.results, extents.of(operand), strict=True):
            axis = _dimension(expression)
            if axis is not None and (axis not in found or found[axis].constant is None):
                found[axis] = extent
    return tuple(found[axis] for axis in range(maps[0].n_dims))


def operand_at(generic: Any, number: int, point: Sequence[Index]) -> Moved:
    return Moved(generic.operands[number], at_point(maps_of(generic)[number], point))


def _generic(op: Any, result: int, place: Place, extents: Extents) -> Element:
    maps, reduces = maps_of(op), reductions_of(op)
    point: list[Index | None] = [None] * len(reduces)
    for expression, index in zip(maps[input_count(op) + result].results, place, strict=True):
        axis = _dimension(expression)
        if axis is not None:
            point[axis] = index
    known = [each for each in point if each is not None]
    if len(known) == len(point):
        return Computed(op, result, tuple(known))
    return Folded(op, result, tuple(point), loop_extents(op, extents))


def _cast(op: Any, _: int, place: Place, __: Extents) -> Element:
    return Moved(op.operands[0], place)


def _expand(op: Any, _: int, place: Place, extents: Extents) -> Element:
    sizes = extents.of(op.results[0])
    return Moved(
        op.operands[0],
        tuple(
            linearized([place[axis] for axis in group], [sizes[axis] for axis in group])
            for group in reassociation(op)
        ),
    )


def _collapse(op: Any, _: int, place: Place, extents: Extents) -> Element:
    sizes = extents.of(op.operands[0])
    found: list[Index] = []
    for group, index in zip(reassociation(op), place, strict=True):
        found += delinearized(index, [sizes[axis] for axis in group])
    return Moved(op.operands[0], tuple(found))


def _reshape(op: Any, _: int, place: Place, extents: Extents) -> Element:
    """tensor.reshape: the same row-major place."""
    index = linearized(place, extents.of(op.results[0]))
    return Moved(op.operands[0], delinearized(index, extents.of(op.operands[0])))


def _extract_slice(op: Any, _: int, place: Place, extents: Extents) -> Element:
    rest, found = iter(place), []
    kept = extents.kept_axes(op)
    offsets = slice_part(op, "offsets", extents)
    for axis, (offset, stride) in enumerate(zip(offsets, strides_of(op), strict=True)):
        found.append(offset + next(rest) * stride if axis in kept else offset)
    return Moved(op.operands[0], tuple(found))


def _insert_slice(op: Any, _: int, place: Place, extents: Extents) -> Element:
    """The source where the place is one of the slice, else the destination."""
    source, target = op.operands[0], op.operands[1]
    offsets, sizes = (slice_part(op, part, extents) for part in ("offsets", "sizes"))
    inside: list[Condition] = []
    moved: list[Index] = []
    for index, offset, size, stride, whole in zip(
        place, offsets, sizes, strides_of(op), extents.of(target), strict=True
    ):
        end = offset + (size - 1) * stride + 1
        if offset != ZERO:
            inside.append(Condition(index, offset, below=False))
        if end != whole:
            inside.append(Condition(index, end))
        if stride != 1:
            inside.append(Condition((index - offset) % stride, ONE))
        moved.append((index - offset) // stride)
    kept = extents.kept_axes(op)
    first = tuple(inside), Moved(source, tuple(moved[axis] for axis in kept))
    return Chosen((first, ((), Moved(target, place))) if inside else (first,))


def _concat(op: Any, _: int, place: Place, extents: Extents) -> Element:
    axis = ir.IntegerAttr(op.attributes["dim"]).value
    cases, start = [], ZERO
    for number, operand in enumerate(op.operands):
        moved = list(place)
        moved[axis] = place[axis] - start
        start = start + extents.of(operand)[axis]
        last = number == len(op.operands) - 1
        condition = () if last else (Condition(place[axis], start),)
        cases.append((condition, Moved(operand, tuple(moved))))
    return Chosen(tuple(cases))


def _pad(op: Any, _: int, place: Place, extents: Extents) -> Element:
    low, high = (slice_part(op, part, extents) for part in ("low", "high"))
    source = op.operands[0]
    inside: list[Condition] = []
    for index, before, after, size in zip(place, low, high, extents.of(source), strict=True):
        if before != ZERO:
            inside.append(Condition(index, before, below=False))
        if after != ZERO:
            inside.append(Condition(index, before + size))
    moved = tuple(index - before for index, before in zip(place, low, strict=True))
    ending = list(op.regions[0].blocks[0].operations)[-1]
    return Chosen(((tuple(inside), Moved(source, moved)), ((), Moved(ending.operands[0], ()))))


def _splat(op: Any, _: int, place: Place, __: Extents) -> Element:
    return Moved(op.operands[0], ())


def _from_elements(op: Any, _: int, place: Place, extents: Extents) -> Element:
    index = linearized(place, extents.of(op.results[0]))
    count = len(op.operands)
    return Chosen(
        tuple(
            (() if number == count - 1 else (Condition(index, ONE + number),), Moved(operand, ()))
            for number, operand in enumerate(op.operands)
        )
    )


RULES: dict[str, Rule] = {
    "linalg.generic": _generic,
    "tensor.cast": _cast,
    "tensor.collapse_shape": _collapse,
    "tensor.concat": _concat,
    "tensor.expand_shape": _expand,
    "tensor.extract_slice": _extract_slice,
    "tensor.from_elements": _from_elements,
    "tensor.insert_slice": _insert_slice,
    "tensor.pad": _pad,
    "tensor.reshape": _reshape,
    "tensor.splat": _splat,
}
VIEWS = ("tensor.cast", "tensor.collapse_shape", "tensor.expand_shape")
"""What leaves every element where it lies."""


def _dimension(expression: ir.AffineExpr) -> int | None:
    if isinstance(expression, ir.AffineDimExpr):
        return expression.position
    return None

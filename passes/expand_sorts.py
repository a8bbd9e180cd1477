"""
Sorts and scans along an axis become linalg: each element finds its place, or its prefix.

    y = tm_tensor.sort x        =>   place[i] = how many x[j] come before x[i];
                                     y[p] = the x[i] whose place is p
    y = tm_tensor.scan x, +     =>   y[i] = sum over j of (j <= i ? x[j] : 0)

Equal elements keep their order, and NaN counts as the largest number. The work grows with the
square of the axis: made for the few choices of a router, right for any number.
"""

from __future__ import annotations

from typing import Any

from ..dialects.bindings import Operation, arith, ir
from ..dialects.errors import UnsupportedError
from ..dialects.regions import walk
from ..dialects.source_line import source_line
from ..dialects.tile.folds import IDENTITIES
from .elementwise import Axes, empty, filled, generic

# Comparisons by number, true where the larger of two comes first (cmpf: ogt, oge, olt, ole, ugt,
# uge, ult, ule; cmpi: slt, sle, sgt, sge).
LARGER_FIRST = {
    "arith.cmpf": {2: True, 3: True, 4: False, 5: False, 9: True, 10: True, 11: False, 12: False},
    "arith.cmpi": {2: False, 3: False, 4: True, 5: True},
}
OGT, OLT, UNO, EQ, SLT, SLE, SGT = 2, 4, 14, 0, 2, 3, 4


def expand_sorts(module: Operation, _: object = None) -> None:
    for op in walk(module):
        name = op.operation.name
        if name not in ("tm_tensor.sort", "tm_tensor.scan"):
            continue
        with ir.InsertionPoint(op), op.location:
            results = _sorted(op) if name == "tm_tensor.sort" else _scanned(op)
        for old, new in zip(op.operation.results, results, strict=True):
            old.replace_all_uses_with(new)
        op.operation.erase()


class _Axis:
    """Loops over a tensor and, behind them, over one of its axes again."""

    def __init__(self, op: Any) -> None:
        self.source = op.operation.operands[0]
        self.rank = ir.RankedTensorType(self.source.type).rank
        self.axis = ir.IntegerAttr(op.operation.attributes["dimension"]).value
        self.here = range(self.rank)

    @property
    def others(self) -> Axes:
        """The elements along the axis that the last loop goes through."""
        return [self.rank if axis == self.axis else axis for axis in self.here]

    def fold(self, inputs: list[tuple[ir.Value, Axes]], start: ir.Value, body: Any) -> ir.Value:
        return generic(inputs, (start, self.here), body, self.rank + 1)

    def position(self) -> ir.Value:
        return _loop(self.axis)

    def other(self) -> ir.Value:
        return _loop(self.rank)


def _sorted(op: Any) -> list[ir.Value]:
    key, larger_first = _sort_key(op)
    axis, number = _Axis(op), ir.IntegerType.get_signless(32)
    keys = op.operation.operands[key]

    def before(mine: ir.Value, other: ir.Value, count: ir.Value) -> ir.Value:
        first, same = _comes_before(other, mine, larger_first)
        earlier = arith.cmpi(SLT, _signed(axis.other()), _signed(axis.position()))
        counts = arith.ori(first, arith.andi(same, earlier))
        return arith.addi(count, arith.extui(number, counts))

    start = filled(keys, axis.here, number, 0)
    place = axis.fold([(keys, axis.here), (keys, axis.others)], start, before)

    def chosen(value: ir.Value, at: ir.Value, found: ir.Value) -> ir.Value:
        mine = arith.index_cast(number, axis.position())
        return arith.select(arith.cmpi(EQ, at, mine), value, found)

    return [
        axis.fold(
            [(values, axis.others), (place, axis.others)],
            filled(values, axis.here, ir.RankedTensorType(values.type).element_type, 0),
            chosen,
        )
        for values in op.operation.operands
    ]


def _comes_before(a: ir.Value, b: ir.Value, larger_first: bool) -> tuple[ir.Value, ir.Value]:
    """Whether a comes before b, and whether they are equal."""
    if isinstance(a.type, ir.IntegerType):
        return arith.cmpi(SGT if larger_first else SLT, a, b), arith.cmpi(EQ, a, b)
    a_is_nan, b_is_nan = arith.cmpf(UNO, a, a), arith.cmpf(UNO, b, b)
    true = arith.constant(ir.IntegerType.get_signless(1), True)
    left, right = (a_is_nan, b_is_nan) if larger_first else (b_is_nan, a_is_nan)
    by_nan = arith.andi(left, arith.xori(right, true))
    first = arith.ori(arith.cmpf(OGT if larger_first else OLT, a, b), by_nan)
    return first, arith.ori(arith.cmpf(1, a, b), arith.andi(a_is_nan, b_is_nan))


def _sort_key(op: Any) -> tuple[int, bool]:
    """Which operand is compared, and whether the larger is first; refuses other comparisons."""
    block = op.operation.regions[0].blocks[0]
    compare, *rest = block.operations
    directions = LARGER_FIRST.get(compare.operation.name, {})
    arguments = list(block.arguments)
    if directions and len(rest) == 1 and set(compare.operands) <= set(arguments):
        larger_first = directions.get(
            ir.IntegerAttr(compare.operation.attributes["predicate"]).value
        )
        left, right = (arguments.index(value) for value in compare.operands)
        if larger_first is not None and left // 2 == right // 2 and left != right:
            return left // 2, larger_first == (left < right)
    raise _refused(op, "it sorts by something else than one comparison")


def _scanned(op: Any) -> list[ir.Value]:
    """Prefixes, and the last of them."""
    axis, (_, _, start) = _Axis(op), op.operation.operands
    combine, *rest = op.operation.regions[0].blocks[0].operations
    name = combine.operation.name
    if len(rest) != 1 or name not in IDENTITIES:
        raise _refused(op, "it is no scan by one operation")
    kind = ir.RankedTensorType(axis.source.type).element_type
    inclusive = ir.BoolAttr(op.operation.attributes["inclusive"]).value

    def combined(left: ir.Value, right: ir.Value) -> ir.Value:
        return ir.Operation.create(name, results=[kind], operands=[left, right]).results[0]

    def identity() -> ir.Value:
        value = IDENTITIES[name]
        return arith.constant(kind, float(value) if isinstance(kind, ir.FloatType) else int(value))

    def prefix(other: ir.Value, total: ir.Value) -> ir.Value:
        code = SLE if inclusive else SLT
        inside = arith.cmpi(code, _signed(axis.other()), _signed(axis.position()))
        return combined(total, arith.select(inside, other, identity()))

    kept: Axes = [each for each in axis.here if each != axis.axis]
    first = filled(axis.source, axis.here, kind, IDENTITIES[name])
    if not inclusive:
        target = empty(axis.source, axis.here, kind), axis.here
        first = generic([(start, kept)], target, lambda each: each)
    prefixes = axis.fold([(axis.source, axis.others)], first, prefix)
    last = _last(prefixes, axis)
    return [prefixes, last]


def _last(prefixes: ir.Value, axis: _Axis) -> ir.Value:
    """The elements at the end of the axis: each turn of the loop takes the next one."""
    kept = [each for each in axis.here if each != axis.axis]
    kind = ir.RankedTensorType(prefixes.type).element_type
    start = filled(prefixes, kept, kind, 0)
    return generic([(prefixes, axis.here)], (start, kept), lambda each, _: each, axis.rank)


def _loop(axis: int) -> ir.Value:
    number = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), axis)
    return ir.Operation.create(
        "linalg.index", results=[ir.IndexType.get()], attributes={"dim": number}
    ).results[0]


def _signed(index: ir.Value) -> ir.Value:
    return arith.index_cast(ir.IntegerType.get_signless(32), index)


def _refused(op: Any, why: str) -> UnsupportedError:
    return UnsupportedError(
        "cuda-sort", f"target cuda has no kernel for {op.operation.name}",
        where=source_line(op.location), why=why,
        next_step="write this part of the model with other ops, or compile for --target cpu",
    )  # fmt: skip

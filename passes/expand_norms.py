"""
Normalizations become linalg, which is fused with what stands around them.

    qcc.rms_norm x, w    =>    s = sum over columns of x²;  x * rsqrt(s / n + epsilon) * w
    qcc.layer_norm       =>    the same of x - mean, with the mean in a reduction before

Sums are fp32 and the result is rounded once, as the ops say.
"""

from __future__ import annotations

from typing import Any

from ..dialects import qcc
from ..dialects.bindings import Operation, arith, ir, math
from ..dialects.regions import walk
from .elementwise import count_of, empty, filled, generic, rounded, widened


def expand_norms(module: Operation, _: object = None) -> None:
    for op in walk(module):
        match op:
            case qcc.RmsNormOp() | qcc.LayerNormOp():
                _replace(op, _norm)


def _replace(op: Any, write: Any) -> None:
    with ir.InsertionPoint(op), op.location:
        result = write(op)
    op.result.replace_all_uses_with(result)
    op.operation.erase()


class _Rows:
    """Sums over the last axes of a tensor."""

    def __init__(self, source: ir.Value, axes: int) -> None:
        self.source, self.rank = source, ir.RankedTensorType(source.type).rank
        self.all = range(self.rank)
        self.rows, self.columns = range(self.rank - axes), range(self.rank - axes, self.rank)
        kind = ir.RankedTensorType(source.type).element_type
        self.wide = kind if str(kind) == "f64" else ir.F32Type.get()

    def mean(self, value: ir.Value, square: bool) -> ir.Value:
        """Over each row, of the values or their squares."""

        def body(element: ir.Value, total: ir.Value) -> ir.Value:
            wide = widened(element, self.wide)
            return arith.addf(total, arith.mulf(wide, wide) if square else wide)

        start = filled(self.source, self.rows, self.wide, 0.0)
        total = generic([(value, self.all)], (start, self.rows), body, self.rank)
        count = count_of(self.source, self.columns, self.wide)
        return generic(
            [(total, self.rows)],
            (empty(self.source, self.rows, self.wide), self.rows),
            lambda each: arith.divf(each, count),
        )

    def inverse_root(self, mean: ir.Value, epsilon: float) -> ir.Value:
        small = arith.constant(self.wide, epsilon)
        return generic(
            [(mean, self.rows)],
            (empty(self.source, self.rows, self.wide), self.rows),
            lambda each: math.rsqrt(arith.addf(each, small)),
        )

    def less(self, mean: ir.Value) -> ir.Value:
        """The values without the mean of their row."""
        return generic(
            [(self.source, self.all), (mean, self.rows)],
            (empty(self.source, self.all, self.wide), self.all),
            lambda each, middle: arith.subf(widened(each, self.wide), middle),
        )


def _norm(op: Any) -> ir.Value:
    rows = _Rows(op.input, ir.IntegerAttr(op.axes).value)
    value = op.input
    if isinstance(op, qcc.LayerNormOp):
        value = rows.less(rows.mean(value, square=False))
    epsilon = ir.FloatAttr(op.epsilon).value
    factor = rows.inverse_root(rows.mean(value, square=True), epsilon)
    weight, bias = op.weight, op.bias if isinstance(op, qcc.LayerNormOp) else None
    given = [(each, rows.columns) for each in (weight, bias) if each is not None]
    kind = ir.RankedTensorType(op.result.type).element_type

    def body(element: ir.Value, inverse: ir.Value, *others: ir.Value) -> ir.Value:
        rest = iter(others)
        result = arith.mulf(widened(element, rows.wide), inverse)
        if weight is not None:
            result = arith.mulf(result, widened(next(rest), rows.wide))
        if bias is not None:
            result = arith.addf(result, widened(next(rest), rows.wide))
        return rounded(result, kind)

    target = empty(op.input, rows.all, kind), rows.all
    return generic([(value, rows.all), (factor, rows.rows), *given], target, body)

"""
Linear layers whose weight is no parameter become linalg: no kernel packs what a model computes.

    y = qcc.linear x, w, b    =>    y[…, n] = b[n] + sum over k of x[…, k] * w[n, k]

Sums are fp32 and the result is rounded once.
"""

from __future__ import annotations

from ..dialects import qcc
from ..dialects.bindings import Operation, arith, ir, tensor
from ..dialects.regions import walk
from .elementwise import dim, generic, rounded, widened
from .schedule_linear import producer_name


def expand_products(module: Operation, _: object = None) -> None:
    for op in walk(module):
        if isinstance(op, qcc.LinearOp) and producer_name(op.weight) != "qcc.param":
            with ir.InsertionPoint(op), op.location:
                result = _product(op)
            op.result.replace_all_uses_with(result)
            op.operation.erase()


def _product(op: qcc.LinearOp) -> ir.Value:
    kind = ir.RankedTensorType(op.result.type)
    wide, columns = ir.F32Type.get(), kind.rank - 1
    rows = range(columns)

    def fresh(element: ir.Type) -> ir.Value:
        sizes = [
            dim(op.input, axis) if kind.is_dynamic_dim(axis) else kind.shape[axis]
            for axis in range(kind.rank)
        ]
        return tensor.empty(sizes, element)

    def multiplied(x: ir.Value, w: ir.Value, total: ir.Value) -> ir.Value:
        return arith.addf(total, arith.mulf(widened(x, wide), widened(w, wide)))

    every, zero = range(kind.rank), arith.constant(wide, 0.0)
    if op.bias is None:
        start = generic([], (fresh(wide), every), lambda: zero)
    else:
        start = generic(
            [(op.bias, [columns])], (fresh(wide), every), lambda bias: widened(bias, wide)
        )
    total = generic(
        [(op.input, [*rows, kind.rank]), (op.weight, [columns, kind.rank])],
        (start, every),
        multiplied,
        kind.rank + 1,
    )
    if kind.element_type == wide:
        return total
    narrow = kind.element_type
    return generic([(total, every)], (fresh(narrow), every), lambda value: rounded(value, narrow))

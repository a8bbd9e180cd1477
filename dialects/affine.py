"""Affine expressions, computed on whatever has the arithmetic of integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from .bindings import ir
from .errors import UnsupportedError

Number = TypeVar("Number")


def evaluate(
    expression: ir.AffineExpr,
    indices: Sequence[Number],
    symbols: Sequence[Number] = (),
    constant: Callable[[int], Any] = int,
) -> Any:
    """
    The expression at the given indices: integers, arrays of them, or what `constant` makes of one.

    Division rounds down, as affine maps define it; divisors are positive. Raises UnsupportedError
    for a symbol that is not given.
    """
    if isinstance(expression, ir.AffineDimExpr):
        return indices[expression.position]
    if isinstance(expression, ir.AffineSymbolExpr) and symbols:
        return symbols[expression.position]
    if isinstance(expression, ir.AffineConstantExpr):
        return constant(expression.value)
    if not isinstance(expression, ir.AffineBinaryExpr):
        raise UnsupportedError("affine-symbol", f"the map expression {expression} has a symbol")
    left: Any = evaluate(expression.lhs, indices, symbols, constant)
    right: Any = evaluate(expression.rhs, indices, symbols, constant)
    if isinstance(expression, ir.AffineAddExpr):
        return left + right
    if isinstance(expression, ir.AffineMulExpr):
        return left * right
    if isinstance(expression, ir.AffineModExpr):
        return left % right
    if isinstance(expression, ir.AffineFloorDivExpr):
        return left // right
    return (left + right - 1) // right

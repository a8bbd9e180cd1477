"""
Symbolic sizes of a program read from a file: fresh symbols with checked ranges and examples.

Only the user inputs' shapes are taken from the file. Every symbol in them becomes a symbol of a
new ShapeEnv; the shapes of all inner values follow by running the graph on fake tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import sympy
import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges
from torch.utils._traceback import CapturedTraceback

from ...dialects.errors import IntegrityError
from .pt2_schema import Graph, RangeConstraint, SymExpr, SymInt, TensorMeta
from .size_expression import Size, is_evaluable, parse_size

_SYMBOL = re.compile(r"s\d{1,9}\Z")
_MAX_SIZE = 2**48
_MAX_RANK = 64
_FALLBACK_EXAMPLE = 4


def check_expressions(graph: Graph) -> None:
    """Parse every size text of the graph, used or not; IntegrityError for the first bad one."""
    for meta in graph.tensor_values.values():
        for size in (*meta.sizes, *meta.strides, meta.storage_offset):
            _check_text(size.content)
    for table in (graph.sym_int_values, graph.sym_float_values, graph.sym_bool_values):
        for value in table.values():
            _check_text(value.content)


def _check_text(content: object) -> None:
    if isinstance(content, SymExpr):
        parse_size(content.expr_str)


class InputSizes:
    """The symbols of the inputs' shapes, and the evaluation of sizes over them."""

    def __init__(
        self, sizes: Iterable[SymInt], ranges: Mapping[str, RangeConstraint], env: ShapeEnv
    ) -> None:
        expressions = [size.as_expr for size in sizes if isinstance(size.as_expr, SymExpr)]
        self.env = env
        self.symbols: dict[str, torch.SymInt | int] = {}
        self.ranges: dict[sympy.Symbol, ValueRanges] = {}
        for name, example in _examples(expressions, ranges).items():
            self._add(name, example, ranges.get(name, RangeConstraint(None, None)))

    def size(self, size: SymInt) -> int | torch.SymInt:
        """The value of one recorded size, an int or a symbolic int."""
        if not isinstance(size.as_expr, SymExpr):
            return _bounded(size.content)
        tree = parse_size(size.as_expr.expr_str)
        if not is_evaluable(tree):
            raise _bad_size(size.as_expr.expr_str, "it is not an integer expression")
        try:
            value = tree.value(self.symbols)
        except (ArithmeticError, ValueError, KeyError, TypeError) as error:
            raise _bad_size(size.as_expr.expr_str, str(error)) from error
        return value if isinstance(value, torch.SymInt) else _bounded(value)

    def shape(self, meta: TensorMeta) -> tuple[list[int | torch.SymInt], list[int | torch.SymInt]]:
        """Sizes and strides of a tensor."""
        if len(meta.sizes) > _MAX_RANK or len(meta.sizes) != len(meta.strides):
            raise _bad_size(f"{len(meta.sizes)} axes", "sizes and strides disagree")
        return [self.size(size) for size in meta.sizes], [self.size(s) for s in meta.strides]

    def _add(self, name: str, example: int, limits: RangeConstraint) -> None:
        floor = max(limits.min_val or 0, 0)
        upper: Any = int_oo if limits.max_val is None else limits.max_val
        if not floor <= example <= upper:
            raise _bad_size(name, f"its example {example} is outside {floor}..{upper}")
        symbol = sympy.Symbol(name, positive=True, integer=True)
        self.env.add_backed_var_to_val(symbol, example)
        self.env.constrain_symbol_range(symbol, compiler_min=floor, compiler_max=upper)
        self.env.var_to_stack[symbol] = CapturedTraceback.extract(skip=1)
        self.symbols[name] = self.env.create_symintnode(symbol, hint=example)
        self.ranges[symbol] = ValueRanges(
            sympy.Integer(floor), upper if upper is int_oo else sympy.Integer(upper)
        )


def _examples(expressions: list[SymExpr], ranges: Mapping[str, RangeConstraint]) -> dict[str, int]:
    """An example value for each symbol, from the sizes that the file gives as examples."""
    trees = [(parse_size(expression.expr_str), _hint(expression)) for expression in expressions]
    found: dict[str, int] = {}
    for tree, hint in sorted(trees, key=lambda pair: pair[0].head != "Symbol"):
        for name in tree.symbols():
            if not _SYMBOL.match(name):
                raise _bad_size(name, "it is not a name that torch.export gives to a size")
            if name not in found and hint is not None:
                found.update(_solve(tree, name, hint, found))
    names = dict.fromkeys(name for tree, _ in trees for name in tree.symbols())
    return {name: found.get(name, _fallback(ranges.get(name))) for name in names}


def _solve(tree: Size, name: str, value: int, known: Mapping[str, int]) -> dict[str, int]:
    """`name` such that `tree` has that value, if it is affine in `name` and all else is known."""
    if not is_evaluable(tree):
        return {}
    try:
        at_zero, at_one = (tree.value({**known, name: point}) for point in (0, 1))
        solution = (value - at_zero) // (at_one - at_zero)
        solved = tree.value({**known, name: solution}) == value
    except (ArithmeticError, KeyError, ValueError):
        return {}
    return {name: solution} if solved else {}


def _hint(expression: SymExpr) -> int | None:
    if expression.hint is None or expression.hint.kind != "as_int":
        return None
    return _bounded(expression.hint.content)


def _fallback(limits: RangeConstraint | None) -> int:
    lower = limits.min_val if limits and limits.min_val is not None else 0
    upper = limits.max_val if limits and limits.max_val is not None else _MAX_SIZE
    return min(max(lower, _FALLBACK_EXAMPLE), upper)


def _bounded(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_SIZE:
        raise _bad_size(str(value)[:40], f"a size lies in 0..{_MAX_SIZE}")
    return value


def _bad_size(text: str, why: str) -> IntegrityError:
    return IntegrityError(
        "pt2-size",
        f"the size {text[:120]} of an input is refused",
        why=why,
        next_step="export the model again with torch.export.save",
    )

"""
Rules and lists of values as other tuners write them: Python expressions, read and never run.

    >>> columns = {"tile": np.array([8, 24]), "warps": 4}
    >>> parse("tile % warps == 0 and tile * warps <= 64").holds(columns)
    array([ True, False])
    >>> parse("[2**i for i in range(2, 5)] + [48]").value()
    [4, 8, 16, 48]

Numbers, texts, names, lists, arithmetic, comparisons, `in`, `and`, `or`, `not`, `a if c else b`,
and the functions abs, float, int, list, max, min and range. Both sides of `and` are computed, on
whole columns; what a division by zero gives counts only where the other side lets it.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...dialects.errors import IntegrityError

LONGEST_TEXT, LONGEST_LIST, LONGEST_ROW, WIDEST = 1 << 24, 1 << 20, 256, 128
"""Characters of an expression, elements of a list, and of a list in one, bits of a number."""


class Expression:
    """An expression that was read; `names` are those that it needs."""

    def __init__(self, text: str, tree: ast.expr) -> None:
        self.text, self._tree = text, tree
        self.names = _free_names(tree)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def value(self) -> Any:
        """Without names: a number, a text or a list."""
        return self._evaluated({})

    def holds(self, columns: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Where it is true, for columns of values [count] or single ones."""
        arrays = {name: np.asarray(column) for name, column in columns.items()}
        shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
        with np.errstate(all="ignore"):
            truth = np.asarray(self._evaluated(arrays))
        return np.broadcast_to(truth.astype(bool), shape)

    def _evaluated(self, names: Mapping[str, Any]) -> Any:
        try:
            return _evaluate(self._tree, names)
        except (ArithmeticError, TypeError, ValueError, RecursionError) as error:
            raise _unreadable(self.text, f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Written:
    """`Constraint.holds` of a rule that came as an expression, of the values of `names`."""

    expression: Expression
    names: tuple[str, ...]

    def __call__(self, *columns: Any) -> NDArray[np.bool_]:
        return self.expression.holds(dict(zip(self.names, columns, strict=True)))


def parse(text: str) -> Expression:
    """Raises IntegrityError for what is no expression of the kind above."""
    if len(text) > LONGEST_TEXT:
        raise _unreadable(text, f"it has {len(text)} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _unreadable(text, str(error)) from error
    return Expression(text, tree)


def _unreadable(text: str, why: str) -> IntegrityError:
    return IntegrityError(
        "expression-unreadable",
        f"cannot read the expression {text[:200]!r}",
        why=why,
        next_step="write it with arithmetic, comparisons, and, or, not, abs, min, max and range",
    )


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int):
        if exponent * base.bit_length() > WIDEST:
            raise ValueError(f"{base} ** {exponent} is too wide")
        return base**exponent
    return np.power(np.asarray(base, float), exponent)


def _shifted_left(value: Any, by: Any) -> Any:
    if isinstance(by, int) and by > WIDEST:
        raise ValueError(f"a shift by {by}")
    return value << by


def _range(*bounds: int) -> list[int]:
    found = range(*bounds)
    if len(found) > LONGEST_LIST:
        raise ValueError(f"a list of {len(found)} values")
    return list(found)


def _bounded(values: list[Any]) -> list[Any]:
    """A list that a file may make: they could grow with each operation."""
    rows = [len(value) for value in values if isinstance(value, list)]
    if len(values) > LONGEST_LIST or max(rows, default=0) > LONGEST_ROW:
        raise ValueError(f"a list of {len(values)} values, in rows of up to {max(rows, default=1)}")
    return values


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.LShift: _shifted_left,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Not: np.logical_not,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, among: _among(value, among),
    ast.NotIn: lambda value, among: np.logical_not(_among(value, among)),
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "float": lambda value: value * 1.0,
    "int": lambda value: np.trunc(value).astype(np.int64),
    "list": list,
    "max": lambda *values: reduce(np.maximum, _listed(values)),
    "min": lambda *values: reduce(np.minimum, _listed(values)),
    "range": _range,
}
_NODES = (
    ast.Constant, ast.Name, ast.Load, ast.Store, ast.List, ast.Tuple, ast.Set, ast.ListComp,
    ast.comprehension, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.IfExp,
    ast.Call, *_BINARY, *_UNARY, *_COMPARISONS,
)  # fmt: skip


def _check(tree: ast.expr) -> None:
    """Raises ValueError unless each node is one that `_evaluate` knows."""
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            raise ValueError(f"it has a {type(node).__name__}")
        if isinstance(node, ast.Constant) and not isinstance(node.value, bool | int | float | str):
            raise ValueError(f"it has the constant {node.value!r}")
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
            if name not in _FUNCTIONS or node.keywords:
                raise ValueError(f"it calls {name}")


def _free_names(tree: ast.expr) -> frozenset[str]:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    calls = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    bound = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
        if isinstance(name, ast.Name)
    }
    return frozenset(names - {node.id for node in calls if isinstance(node, ast.Name)} - bound)


def _evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name):
            return _named(name, names)
        case ast.ListComp(element, [loop]):
            return _listed_by(element, loop, names)
    known, combine = _PARTS.get(type(node), (None, None))
    if known is None or combine is None:
        raise ValueError(f"it has a {type(node).__name__}")
    return combine(node, *(_evaluate(part, names) for part in known(node)))


def _named(name: str, names: Mapping[str, Any]) -> Any:
    if name not in names:
        raise ValueError(f"nothing is named {name}")
    return names[name]


def _compared(node: ast.Compare, *values: Any) -> Any:
    pairs = zip(node.ops, pairwise(values), strict=True)
    return reduce(np.logical_and, [_COMPARISONS[type(op)](*pair) for op, pair in pairs])


def _joined(node: ast.BoolOp, *values: Any) -> Any:
    return reduce(np.logical_and if isinstance(node.op, ast.And) else np.logical_or, values)


def _called(node: ast.Call, *values: Any) -> Any:
    return _FUNCTIONS[node.func.id if isinstance(node.func, ast.Name) else ""](*values)


def _listed_by(element: ast.expr, loop: ast.comprehension, names: Mapping[str, Any]) -> list[Any]:
    if not isinstance(loop.target, ast.Name):
        raise ValueError("a list names one variable")
    found = []
    for value in _evaluate(loop.iter, names):
        inner = {**names, loop.target.id: value}
        if all(_evaluate(test, inner) for test in loop.ifs):
            found.append(_evaluate(element, inner))
            _bounded(found[-1:])
    return found


def _combined(node: ast.BinOp, left: Any, right: Any) -> Any:
    """Lists can be joined; texts, and lists otherwise, are no operands: they could grow at will."""
    joined = isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list)
    if not joined and (isinstance(left, str | list) or isinstance(right, str | list)):
        raise TypeError("arithmetic takes numbers")
    return _bounded(left + right) if joined else _BINARY[type(node.op)](left, right)


def _among(value: Any, among: list[Any]) -> Any:
    """`value in among`; a list of values, each a column, stands for a column of tuples."""
    if not isinstance(value, list):
        return reduce(np.logical_or, [value == each for each in among], np.False_)
    known = {tuple(each) for each in among}
    columns = np.broadcast_arrays(*(np.asarray(each) for each in value))
    rows = zip(*(column.ravel().tolist() for column in columns), strict=True)
    truth = np.array([row in known for row in rows], bool)
    return truth.reshape(columns[0].shape)


def _listed(values: tuple[Any, ...]) -> Any:
    """The arguments of max and min: several, or one list."""
    return values[0] if len(values) == 1 and isinstance(values[0], list) else list(values)


_PARTS: dict[type[ast.expr], tuple[Callable[[Any], list[ast.expr]], Callable[..., Any]]] = {
    ast.List: (lambda node: node.elts, lambda node, *values: _bounded(list(values))),
    ast.Tuple: (lambda node: node.elts, lambda node, *values: _bounded(list(values))),
    ast.Set: (lambda node: node.elts, lambda node, *values: _bounded(list(values))),
    ast.UnaryOp: (lambda node: [node.operand], lambda node, value: _UNARY[type(node.op)](value)),
    ast.BinOp: (lambda node: [node.left, node.right], _combined),
    ast.BoolOp: (lambda node: node.values, _joined),
    ast.Compare: (lambda node: [node.left, *node.comparators], _compared),
    ast.IfExp: (
        lambda node: [node.test, node.body, node.orelse],
        lambda node, *values: np.where(*values),
    ),
    ast.Call: (lambda node: node.args, _called),
}
"""Of each kind of node: its parts, and what their values make."""

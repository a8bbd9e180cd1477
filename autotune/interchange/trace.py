"""
The rules of a space as expressions that other tuners can evaluate.

    holds(tile, warps) = (tile % warps == 0) & (tile <= 64)   ⇒   "tile % warps == 0 and tile <= 64"

The function that the space has is called once with terms in place of arrays, which write down what
is done to them; so a rule is stated in one place. Rules that look into tables, say, cannot be
written down like that: they become the list of what they allow, or of what they forbid.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...dialects.errors import IntegrityError
from ...dialects.knobs import Constraint, Knob
from .expression import Written, parse

LONGEST_TABLE = 1 << 16
SAMPLE = 4096


class Term:
    """An expression under construction, in place of an array of numbers or texts."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, node: ast.expr, boolean: bool = False) -> None:
        self.node, self.boolean = node, boolean

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Term:
        if method != "__call__" or options or ufunc.__name__ not in _UFUNCS:
            raise TypeError(f"{ufunc.__name__} cannot be written down")
        return _UFUNCS[ufunc.__name__](*inputs)

    def __array_function__(
        self, function: Callable[..., Any], _: Any, inputs: Any, options: Any
    ) -> Term:
        if options or function.__name__ not in _FUNCTIONS:
            raise TypeError(f"{function.__name__} cannot be written down")
        return _FUNCTIONS[function.__name__](*inputs)

    def __bool__(self) -> bool:
        raise TypeError("what is true depends on the config")

    def __invert__(self) -> Term:
        return _unary(ast.Not() if self.boolean else ast.Invert(), self)

    def __neg__(self) -> Term:
        return _unary(ast.USub(), self)

    def __abs__(self) -> Term:
        return _called("abs", self)


def expression_of(rule: Constraint, knobs: Mapping[str, Knob]) -> str | None:
    """
    A Python expression of the names of knobs, true where `rule` holds; None for a rule that can
    neither be written down nor listed, as one that asks a verifier.
    """
    if isinstance(rule.holds, Written):
        return rule.holds.expression.text
    own = [knobs[name] for name in rule.knobs]
    return _traced(rule, own) or _tabled(rule, own)


def membership(knobs: list[Knob], rows: NDArray[np.int64], among: str = "in") -> str:
    """That the values of `knobs` are one of `rows` [rows, knobs] of value indices."""
    values = [[knob.values[i] for knob, i in zip(knobs, row, strict=True)] for row in rows.tolist()]
    if len(knobs) == 1:
        return f"{knobs[0].name} {among} {[row[0] for row in values]!r}"
    names = ", ".join(knob.name for knob in knobs)
    return f"({names}) {among} {{{', '.join(repr(tuple(row)) for row in values)}}}"


def _traced(rule: Constraint, knobs: list[Knob]) -> str:
    """Empty where what was written down does not agree with the rule, or nothing could be."""
    try:
        term = rule.holds(*(Term(ast.Name(knob.name)) for knob in knobs))
    except (TypeError, ValueError, AttributeError, IndexError, KeyError):
        return ""
    if not isinstance(term, Term):
        return ""
    text = ast.unparse(ast.fix_missing_locations(term.node))
    configs = _some(knobs)
    columns = {knob.name: knob.array[configs[:, i]] for i, knob in enumerate(knobs)}
    try:
        with np.errstate(all="ignore"):
            agree = (parse(text).holds(columns) == rule.holds(*columns.values())).all()
    except IntegrityError:
        return ""
    return text if agree else ""


def _some(knobs: list[Knob]) -> NDArray[np.int64]:
    """All combinations of the values of a few knobs; of more, some at random."""
    sizes = [len(knob.values) for knob in knobs]
    if prod(sizes) <= SAMPLE:
        return _all(sizes)
    return np.random.default_rng(0).integers(sizes, size=(SAMPLE, len(sizes)))


def _all(sizes: list[int]) -> NDArray[np.int64]:
    return np.indices(sizes).reshape(len(sizes), -1).T


def _tabled(rule: Constraint, knobs: list[Knob]) -> str | None:
    sizes = [len(knob.values) for knob in knobs]
    if prod(sizes) > LONGEST_TABLE:
        return None
    configs = _all(sizes)
    holds = rule.holds(*(knob.array[configs[:, i]] for i, knob in enumerate(knobs)))
    good = np.broadcast_to(holds, len(configs))
    if good.all():
        return "True"
    listed, among = (good, "in") if 2 * good.sum() <= len(good) else (~good, "not in")
    return membership(knobs, configs[listed], among)


def _node(value: Any) -> ast.expr:
    """Raises TypeError for what is neither a term nor a single number or text."""
    if isinstance(value, np.generic | np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, Term):
        return value.node
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    if isinstance(value, bool | int | float | str):
        return ast.Constant(value)
    raise TypeError(f"{type(value).__name__} cannot be written down")


def _boolean(value: Any) -> bool:
    return value.boolean if isinstance(value, Term) else isinstance(value, bool | np.bool_)


def _unary(op: ast.unaryop, value: Any) -> Term:
    return Term(ast.UnaryOp(op, _node(value)), isinstance(op, ast.Not))


def _called(name: str, *values: Any) -> Term:
    return Term(ast.Call(ast.Name(name), [_node(value) for value in values], []))


def _binary(op: ast.operator) -> Callable[[Any, Any], Term]:
    return lambda left, right: Term(ast.BinOp(_node(left), op, _node(right)))


def _compared(op: ast.cmpop) -> Callable[[Any, Any], Term]:
    return lambda left, right: Term(ast.Compare(_node(left), [op], [_node(right)]), True)


def _joined(join: ast.boolop) -> Callable[[Any, Any], Term]:
    def written(left: Any, right: Any) -> Term:
        operands: list[ast.expr] = []
        for node in (_node(left), _node(right)):
            same = isinstance(node, ast.BoolOp) and isinstance(node.op, type(join))
            operands += node.values if isinstance(node, ast.BoolOp) and same else [node]
        return Term(ast.BoolOp(join, operands), True)

    return written


def _joined_or(join: ast.boolop, bits: ast.operator) -> Callable[[Any, Any], Term]:
    """`&` and `|`: of truths, or of the bits of numbers."""

    def written(left: Any, right: Any) -> Term:
        truths = _boolean(left) and _boolean(right)
        return (_joined(join) if truths else _binary(bits))(left, right)

    return written


def _where(test: Any, body: Any, other: Any) -> Term:
    truths = _boolean(body) and _boolean(other)
    return Term(ast.IfExp(_node(test), _node(body), _node(other)), truths)


def _isin(value: Any, among: Any) -> Term:
    items = [_node(each) for each in np.asarray(among).ravel().tolist()]
    return Term(ast.Compare(_node(value), [ast.In()], [ast.List(items)]), True)


_UFUNCS: dict[str, Callable[..., Term]] = {
    "add": _binary(ast.Add()),
    "subtract": _binary(ast.Sub()),
    "multiply": _binary(ast.Mult()),
    "divide": _binary(ast.Div()),
    "floor_divide": _binary(ast.FloorDiv()),
    "remainder": _binary(ast.Mod()),
    "power": _binary(ast.Pow()),
    "left_shift": _binary(ast.LShift()),
    "right_shift": _binary(ast.RShift()),
    "bitwise_and": _joined_or(ast.And(), ast.BitAnd()),
    "bitwise_or": _joined_or(ast.Or(), ast.BitOr()),
    "bitwise_xor": _binary(ast.BitXor()),
    "logical_and": _joined(ast.And()),
    "logical_or": _joined(ast.Or()),
    "logical_not": lambda value: _unary(ast.Not(), value),
    "negative": lambda value: -value,
    "invert": lambda value: ~value,
    "absolute": lambda value: abs(value),
    "minimum": lambda left, right: _called("min", left, right),
    "maximum": lambda left, right: _called("max", left, right),
    "equal": _compared(ast.Eq()),
    "not_equal": _compared(ast.NotEq()),
    "less": _compared(ast.Lt()),
    "less_equal": _compared(ast.LtE()),
    "greater": _compared(ast.Gt()),
    "greater_equal": _compared(ast.GtE()),
}
_FUNCTIONS: dict[str, Callable[..., Term]] = {"where": _where, "isin": _isin}


def _operator(name: str, swapped: bool) -> Callable[[Term, Any], Term]:
    write = _UFUNCS[name]
    return (lambda self, other: write(other, self)) if swapped else write


for _name, _ufunc in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide",
    "floordiv": "floor_divide", "mod": "remainder", "pow": "power", "lshift": "left_shift",
    "rshift": "right_shift", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
}.items():  # fmt: skip
    setattr(Term, f"__{_name}__", _operator(_ufunc, swapped=False))
    setattr(Term, f"__r{_name}__", _operator(_ufunc, swapped=True))
for _name, _ufunc in {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
    "ge": "greater_equal",
}.items():  # fmt: skip
    setattr(Term, f"__{_name}__", _operator(_ufunc, swapped=False))

"""
Size expressions of an exported program, read without evaluating them.

torch.export writes a symbolic size as the text of a SymPy tree, such as
`Mul(Integer(8), Symbol('s27', positive=True, integer=True))`, and reads it back through SymPy's
string parser, which is Python's `eval`. Here the text is parsed to a syntax tree and walked over
a closed list of names; anything else is an IntegrityError.

>>> parse_size("Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(1))").value({"s0": 5})
11
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import prod
from typing import Any, NoReturn

from ...dialects.errors import IntegrityError

_MAX_TEXT = 4096
_MAX_DEPTH = 40
_MAX_INTEGER = 2**63
_MAX_EXPONENT = 16


@dataclass(frozen=True, slots=True)
class Size:
    """A size expression: an integer, a symbol's name, or a function of other expressions."""

    head: str
    arguments: tuple[Size, ...] = ()
    leaf: int | float | str = 0

    def value(self, symbols: Mapping[str, Any]) -> Any:
        """The expression over `symbols`, which may be integers or symbolic integers."""
        if self.head == "Symbol":
            return symbols[str(self.leaf)]
        if self.head == "Integer":
            return self.leaf
        return _MEANINGS[self.head](*(argument.value(symbols) for argument in self.arguments))

    def symbols(self) -> Iterator[str]:
        """Names of the symbols, in the order of the text, with repeats."""
        if self.head == "Symbol":
            yield str(self.leaf)
        for argument in self.arguments:
            yield from argument.symbols()


def _floor_divide(left: Any, right: Any) -> Any:
    return left // right


def _ceil_divide(left: Any, right: Any) -> Any:
    return -(-left // right)


def _power(base: Any, exponent: Any) -> Any:
    if not isinstance(exponent, int) or not 0 <= exponent <= _MAX_EXPONENT:
        raise ValueError(f"the exponent {exponent} is not in 0..{_MAX_EXPONENT}")
    return base**exponent


def _maximum(left: Any, right: Any) -> Any:
    return left if left >= right else right


def _minimum(left: Any, right: Any) -> Any:
    return left if left <= right else right


# The meaning of each head that may stand for a size, on Python integers and torch SymInts alike.
_MEANINGS: dict[str, Callable[..., Any]] = {
    "Add": lambda *terms: sum(terms[1:], start=terms[0]),
    "Mul": lambda *factors: prod(factors[1:], start=factors[0]),
    "FloorDiv": _floor_divide,
    "CleanDiv": _floor_divide,
    "CeilDiv": _ceil_divide,
    "Mod": lambda left, right: left % right,
    "PythonMod": lambda left, right: left % right,
    "Max": lambda *terms: reduce(_maximum, terms),
    "Min": lambda *terms: reduce(_minimum, terms),
    "Pow": _power,
    "PowByNatural": _power,
}

# Heads that occur in the recorded types of inner values; checked for shape, never evaluated,
# because qcc derives inner values again from the inputs.
# fmt: off
_OPAQUE_HEADS = frozenset((
    "Rational", "Float", "IntTrueDiv", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality",
    "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "And", "Or",
    "Not", "Piecewise", "ExprCondPair", "Where", "ModularIndexing", "FloorToInt", "CeilToInt",
    "TruncToInt", "TruncToFloat", "RoundToInt", "RoundDecimal", "ToFloat", "FloatPow",
    "FloatTrueDiv", "IsNonOverlappingAndDenseIndicator", "Identity", "OpaqueUnaryFn_sqrt",
    "floor", "ceiling", "LShift", "RShift", "BitwiseFn_bitwise_and", "BitwiseFn_bitwise_or",
))
# fmt: on
_ASSUMPTIONS = frozenset({"integer", "positive", "nonnegative", "real", "finite", "evaluate"})
_BARE_NAMES = frozenset({"true", "false", "True", "False"})


@lru_cache(maxsize=4096)
def parse_size(text: str) -> Size:
    """
    The expression written in `text`.

    Raises IntegrityError for anything outside the grammar: calls of the heads above,
    `Symbol('name', assumption=bool, …)`, `Integer(n)` and plain numbers.
    """
    if len(text) > _MAX_TEXT:
        _refuse(text, f"it is longer than {_MAX_TEXT} characters")
    if text.count("(") > 512:
        _refuse(text, "it is nested too deeply")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        _refuse(text, "it is not an expression")
    return _read(tree.body, text, 0)


def is_evaluable(size: Size) -> bool:
    """Whether every head of the expression has a meaning as an integer size."""
    if size.head in ("Symbol", "Integer"):
        return True
    return size.head in _MEANINGS and all(is_evaluable(inner) for inner in size.arguments)


def _read(node: ast.expr, text: str, depth: int) -> Size:
    if depth > _MAX_DEPTH:
        _refuse(text, "it is nested too deeply")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return Size("Mul", (Size("Integer", leaf=-1), _read(node.operand, text, depth + 1)))
    if isinstance(node, ast.Constant):
        return _constant(node.value, text)
    if isinstance(node, ast.Name) and node.id in _BARE_NAMES:
        return Size("Boolean", leaf=node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node.func.id, node, text, depth)
    _refuse(text, f"{type(node).__name__} has no place in a size")


def _constant(value: object, text: str) -> Size:
    if isinstance(value, bool):
        return Size("Boolean", leaf=str(value))
    if isinstance(value, int) and abs(value) < _MAX_INTEGER:
        return Size("Integer", leaf=value)
    if isinstance(value, float):
        return Size("Real", leaf=value)
    _refuse(text, f"the constant {str(value)[:40]!r} is not a number of 64 bits")


def _call(head: str, node: ast.Call, text: str, depth: int) -> Size:
    if head == "Symbol":
        return _symbol(node, text)
    if node.keywords and not all(_is_assumption(keyword) for keyword in node.keywords):
        _refuse(text, f"{head} takes no such keyword")
    if head == "Integer":
        return _integer(node, text, depth)
    if head not in _MEANINGS and head not in _OPAQUE_HEADS:
        _refuse(text, f"'{head[:40]}' is not a function of sizes")
    arguments = tuple(_read(argument, text, depth + 1) for argument in node.args)
    if not arguments:
        _refuse(text, f"{head} has no arguments")
    return Size(head, arguments)


def _integer(node: ast.Call, text: str, depth: int) -> Size:
    arguments = [_read(argument, text, depth + 1) for argument in node.args]
    if len(arguments) != 1 or set(arguments[0].symbols()):
        _refuse(text, "Integer takes one number")
    try:
        return Size("Integer", leaf=int(arguments[0].value({})))
    except (KeyError, ValueError):
        _refuse(text, "Integer takes one number")


def _symbol(node: ast.Call, text: str) -> Size:
    name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
    well_formed = isinstance(name, str) and name.isidentifier() and len(name) <= 64
    if not well_formed or len(node.args) != 1 or not all(map(_is_assumption, node.keywords)):
        _refuse(text, "a Symbol takes one name and boolean assumptions")
    return Size("Symbol", leaf=str(name))


def _is_assumption(keyword: ast.keyword) -> bool:
    value = keyword.value
    return (
        keyword.arg in _ASSUMPTIONS
        and isinstance(value, ast.Constant)
        and isinstance(value.value, bool)
    )


def _refuse(text: str, why: str) -> NoReturn:
    raise IntegrityError(
        "pt2-size-expression",
        f"the size {text[:120]!r} is refused",
        why=why,
        next_step="export the model again with torch.export.save; do not trust this copy",
    )

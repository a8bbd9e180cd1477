"""Rules for scalar ops: what one lane computes, and numbers that a whole warp shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...dialects.bindings import arith, ir
from .operand_rules import scaled
from .printer import bare, divided, grouped, linear, number

Given = list[str]
P = arith.CmpIPredicate
COMPARISONS = {
    "arith.cmpi": {int(P.eq): "==", int(P.ne): "!=", int(P.slt): "<", int(P.sle): "<=",
                   int(P.sgt): ">", int(P.sge): ">="},
    "arith.cmpf": {int(arith.CmpFPredicate.OEQ): "==", int(arith.CmpFPredicate.OLT): "<",
                   int(arith.CmpFPredicate.OGT): ">", int(arith.CmpFPredicate.OGE): ">=",
                   int(arith.CmpFPredicate.UNE): "!="},
}  # fmt: skip
U = arith.CmpFPredicate
UNLESS = {int(U.UGT): "<=", int(U.UGE): "<", int(U.ULT): ">=", int(U.ULE): ">"}
"""Comparisons that hold of NaNs too: where the opposite does not."""


def expression(op: Any, given: Given) -> str:
    """The C++ of a scalar op on texts of its operands."""
    return SCALARS[op.operation.name](op, given)


def constant(op: Any) -> str:
    value = op.operation.attributes["value"]
    if isinstance(value, ir.FloatAttr):
        return _single(value.value)
    return str(ir.IntegerAttr(value).value)


def _single(value: float) -> str:
    if value != value:  # NaN
        return "float_of(0x7fffffff)"
    if value in (float("inf"), float("-inf")):
        return "float_of(0x7f800000)" if value > 0 else "float_of(0xff800000)"
    return number(value)


def _infix(symbol: str) -> Callable[[Any, Given], str]:
    return lambda _, given: f"{grouped(given[0])} {symbol} {grouped(given[1])}"


def _called(function: str) -> Callable[[Any, Given], str]:
    return lambda _, given: f"{function}({', '.join(map(bare, given))})"


def _compared(op: Any, given: Given) -> str:
    predicate = ir.IntegerAttr(op.operation.attributes["predicate"]).value
    if op.operation.name == "arith.cmpf" and predicate in UNLESS:
        return f"!({_term(given[0])} {UNLESS[predicate]} {_term(given[1])})"
    symbol = COMPARISONS[op.operation.name][predicate]
    return f"{_term(given[0])} {symbol} {_term(given[1])}"


def _widened(op: Any, given: Given) -> str:
    return f"f32_from_{op.operation.operands[0].type}({given[0]})"


def _narrowed(op: Any, given: Given) -> str:
    return f"{op.operation.results[0].type}_from_f32({given[0]})"


def _divided(op: Any, given: Given) -> str:
    if "arcp" not in str(op.operation.attributes["fastmath"]):
        return f"{grouped(given[0])} / {grouped(given[1])}"
    inverse = f"reciprocal_approx({given[1]})"
    return inverse if given[0] == "1.0f" else f"{grouped(given[0])} * {inverse}"


def _chosen(_: Any, given: Given) -> str:
    return f"{grouped(given[0])} ? {given[1]} : {given[2]}"


def _product(_: Any, given: Given) -> str:
    if given[0] == "0" or given[1] == "0":
        return "0"
    return f"{grouped(given[0])} * {grouped(given[1])}"


def _quotient(_: Any, given: Given) -> str:
    return divided(given[0], int(given[1])) if given[1].isdigit() else _infix("/")(_, given)


def _sum(_: Any, given: Given) -> str:
    return linear(*(_term(each) for each in given))


def _term(value: str) -> str:
    """Sums and products need no parentheses in a sum or a comparison; choices do."""
    inside = bare(value)
    return value if set(inside) & set("?<>=&|") else inside


SCALARS: dict[str, Callable[[Any, Given], str]] = {
    "arith.constant": lambda op, _: constant(op),
    "arith.addf": _infix("+"),
    "arith.subf": _infix("-"),
    "arith.mulf": _infix("*"),
    "arith.divf": _divided,
    "arith.maxnumf": _called("maximum"),
    "arith.minnumf": _called("minimum"),
    "arith.negf": lambda _, given: f"-{grouped(given[0])}",
    "arith.extf": _widened,
    "arith.truncf": _narrowed,
    "arith.fptosi": lambda _, given: f"u8(s32_from_f32({given[0]}))",
    "math.roundeven": _called("round_even"),
    "arith.sitofp": lambda _, given: f"f32_from_s32({given[0]})",
    "arith.select": _chosen,
    "arith.cmpf": _compared,
    "arith.cmpi": _compared,
    "arith.ori": _infix("||"),
    "arith.andi": _infix("&&"),
    "arith.addi": _sum,
    "arith.subi": _infix("-"),
    "arith.muli": _product,
    "arith.divsi": _quotient,
    "arith.remsi": _infix("%"),
    "arith.minsi": _called("minimum"),
    "arith.maxsi": _called("maximum"),
    "arith.index_cast": lambda op, given: (
        f"s64({given[0]})" if str(op.operation.results[0].type) == "i64" else given[0]
    ),
    "math.exp2": _called("exp2_approx"),
    "math.rsqrt": _called("math::rsqrt"),
    "math.fma": _called("fma"),
    "tile.scale": lambda op, given: scaled(op.kind.value, "multiply", given[0], 1.0),
}
"""Integers are counts of rows and columns below 2^31, and never negative where they are divided."""

"""
Scalar ops of arith and math as C++ expressions, in the types that a thread holds them in.

Floats of 16 bits and fewer are held as the fp32 numbers that they are, and every operation on them
is rounded to their type again. Integers below 32 bits are held as s32, truth values as bool,
indices as int.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...dialects.bindings import ir
from ...dialects.errors import UnsupportedError
from ...dialects.source_line import source_line
from .printer import number

Operands = Sequence[str]
Rule = Callable[[Any, Operands], str]

HELD = {
    "f64": "double", "i1": "bool", "i8": "s32", "i16": "s32", "i32": "s32", "i64": "s64",
    "ui16": "s32", "ui8": "s32", "si8": "s32", "index": "int",
}  # fmt: skip
STORED = {
    "f64": "double", "f32": "float", "f16": "u16", "bf16": "u16", "i1": "u8", "i8": "s8",
    "i16": "s16", "i32": "s32", "i64": "s64", "ui16": "u16", "ui8": "u8",
    "si8": "s8",
}  # fmt: skip
BYTES = {"double": 8, "float": 4, "u16": 2, "u8": 1, "s8": 1, "s16": 2, "s32": 4, "s64": 8}
ROUNDED = {"f16": "rounded_f16", "bf16": "rounded_bf16"}
ORDERED = {1: "==", 2: ">", 3: ">=", 4: "<", 5: "<="}
UNORDERED_INVERSE = {9: "<=", 10: "<", 11: ">=", 12: ">"}
INTEGER = {0: "==", 1: "!=", 2: "<", 3: "<=", 4: ">", 5: ">=", 6: "<", 7: "<=", 8: ">", 9: ">="}
UNSIGNED = {"i8": "u8", "i16": "u16", "i32": "u32", "i64": "u64", "index": "u32", "i1": "u32"}


def held_type(kind: str) -> str:
    """The C++ type of a value of an element type in a register."""
    return HELD.get(kind, "float")


def stored_type(kind: str) -> str:
    """The C++ type of an element in memory; raises UnsupportedError where there is none."""
    if kind not in STORED:
        raise UnsupportedError(
            "cuda-element", f"cuda: no kernel stores elements of {kind}",
            next_step="compute this part of the model in another type",
        )  # fmt: skip
    return STORED[kind]


def stored_size(kind: str) -> int:
    """Bytes of an element in memory."""
    return BYTES[stored_type(kind)]


def loaded(kind: str, text: str) -> str:
    """What is stored, as it is held."""
    match kind:
        case "f16" | "bf16":
            return f"f32_from_{kind}({text})"
        case "i1":
            return f"{text} != 0"
    return text


def to_store(kind: str, text: str) -> str:
    match kind:
        case "f16" | "bf16":
            return f"{kind}_from_f32({text})"
        case "i1" | "i8" | "i16" | "ui16" | "ui8" | "si8":
            return f"{STORED[kind]}({text})"
    return text


def literal(attribute: ir.Attribute, kind: str) -> str:
    """A constant; raises UnsupportedError for what is none."""
    if isinstance(attribute, ir.FloatAttr):
        return float_literal(attribute.value, kind)
    if isinstance(attribute, ir.BoolAttr):
        return "true" if attribute.value else "false"
    value = ir.IntegerAttr(attribute).value
    if kind == "i1":
        return "true" if value else "false"
    if kind == "i64" and abs(value) >= 1 << 31:
        return "(-9223372036854775807LL - 1)" if value == -(1 << 63) else f"{value}LL"
    return "(-2147483647 - 1)" if value == -(1 << 31) and kind != "i64" else str(value)


def float_literal(value: float, kind: str) -> str:
    if value != value:
        return "float_of(0x7fc00000)"
    if value in (float("inf"), float("-inf")):
        return f"float_of(0x{'7' if value > 0 else 'f'}f800000)"
    return repr(value) if kind == "f64" else number(value)


def expression(op: Any, operands: Operands) -> str:
    """The value of an op on its operands; raises UnsupportedError where it has no rule."""
    name = op.operation.name
    rule = RULES.get(name)
    if rule is None:
        raise UnsupportedError(
            "cuda-no-rule", f"cuda: no rule for {name}", where=source_line(op.location),
            next_step="write this part of the model with other ops",
        )  # fmt: skip
    return rule(op, operands)


def kind_of(value: ir.Value) -> str:
    return str(value.type)


def _result(op: Any) -> str:
    return kind_of(op.results[0])


def _in_type(op: Any, text: str) -> str:
    """Rounded to the type of the result, or reduced to its bits."""
    kind = _result(op)
    if kind in ROUNDED:
        return f"{ROUNDED[kind]}({text})"
    return f"{STORED[kind]}({text})" if kind in ("i8", "i16") else text


def _infix(symbol: str) -> Rule:
    return lambda op, x: _in_type(op, f"{x[0]} {symbol} {x[1]}")


def _ring(symbol: str, on_bits: str) -> Rule:
    def rule(op: Any, x: Operands) -> str:
        if _result(op) == "i1":
            return f"{x[0]} {on_bits} {x[1]}"
        return _in_type(op, f"{x[0]} {symbol} {x[1]}")

    return rule


def _call(name: str) -> Rule:
    return lambda op, x: _in_type(op, f"{name}({', '.join(x)})")


def _integer_call(name: str) -> Rule:
    """Of one type, which is said: an operand may be a literal."""
    return lambda op, x: _in_type(op, f"{name}<{held_type(_result(op))}>({', '.join(x)})")


def _exact(name: str) -> Rule:
    """A function whose result is one of its operands, or as short as they are."""
    return lambda op, x: f"{name}({', '.join(x)})"


def _unsigned(text: str) -> Rule:
    """`text` with {0} and {1} read without a sign."""

    def rule(op: Any, x: Operands) -> str:
        kind = kind_of(op.operands[0])
        read = [f"{UNSIGNED[kind]}({each})" for each in x]
        return f"{held_type(kind)}({_in_type(op, text.format(*read))})"

    return rule


def _compare_floats(op: Any, x: Operands) -> str:
    a, b = x
    match ir.IntegerAttr(op.attributes["predicate"]).value:
        case 0:
            return "false"
        case 6:
            return f"{a} < {b} || {a} > {b}"
        case 7:
            return f"{a} == {a} && {b} == {b}"
        case 8:
            return f"!({a} < {b} || {a} > {b})"
        case 13:
            return f"{a} != {b}"
        case 14:
            return f"{a} != {a} || {b} != {b}"
        case 15:
            return "true"
        case other if other in ORDERED:
            return f"{a} {ORDERED[other]} {b}"
        case other:
            return f"!({a} {UNORDERED_INVERSE[other]} {b})"


def _compare_integers(op: Any, x: Operands) -> str:
    number_, kind = ir.IntegerAttr(op.attributes["predicate"]).value, kind_of(op.operands[0])
    if number_ >= 6:
        x = [f"{UNSIGNED[kind]}({each})" for each in x]
    return f"{x[0]} {INTEGER[number_]} {x[1]}"


def _convert(op: Any, x: Operands) -> str:
    """Between floats, or from integers."""
    source, result = kind_of(op.operands[0]), _result(op)
    text = x[0]
    if held_type(source) != held_type(result):
        text = f"{held_type(result)}({text})"
    return f"{ROUNDED[result]}({text})" if result in ROUNDED and source != result else text


def _convert_unsigned(op: Any, x: Operands) -> str:
    result = _result(op)
    text = f"{held_type(result)}({UNSIGNED[kind_of(op.operands[0])]}({x[0]}))"
    return f"{ROUNDED[result]}({text})" if result in ROUNDED else text


def _extend(op: Any, x: Operands) -> str:
    """extsi: true is -1."""
    sign = "-" if kind_of(op.operands[0]) == "i1" else ""
    return f"{sign}{held_type(_result(op))}({x[0]})"


def _truncate(op: Any, x: Operands) -> str:
    kind = _result(op)
    if kind == "i1":
        return f"({x[0]} & 1) != 0"
    return f"{STORED.get(kind, held_type(kind))}({x[0]})"


def _to_integer(op: Any, x: Operands) -> str:
    kind = _result(op)
    if kind == "i1":
        return f"{x[0]} != 0"
    wide = "s64" if kind in ("i64", "index") else "s32"
    return _in_type(op, f"math::truncated_{wide}({x[0]})")


def _bitcast(op: Any, x: Operands) -> str:
    pair = kind_of(op.operands[0]), _result(op)
    if pair == ("f32", "i32"):
        return f"s32(bits_of({x[0]}))"
    if pair == ("i32", "f32"):
        return f"float_of({x[0]})"
    if pair[0] == "i16" and pair[1] in ROUNDED:
        return f"f32_from_{pair[1]}(u16({x[0]}))"
    if pair[1] == "i16" and pair[0] in ROUNDED:
        return f"s16({pair[0]}_from_f32({x[0]}))"
    if pair[0] == pair[1]:
        return x[0]
    raise UnsupportedError(
        "cuda-no-rule", f"cuda: no rule for arith.bitcast of {pair[0]} to {pair[1]}",
        where=source_line(op.location), next_step="write this part of the model with other ops",
    )  # fmt: skip


def _integer_power(op: Any, x: Operands) -> str:
    return _in_type(op, f"math::power({x[0]}, s64({x[1]}), 0)")


def _absolute_integer(op: Any, x: Operands) -> str:
    return _in_type(op, f"{x[0]} < 0 ? -{x[0]} : {x[0]}")


def _constant(op: Any, _: Operands) -> str:
    return literal(op.attributes["value"], _result(op))


RULES: dict[str, Rule] = {
    "arith.constant": _constant,
    "arith.addf": _infix("+"),
    "arith.subf": _infix("-"),
    "arith.mulf": _infix("*"),
    "arith.divf": _infix("/"),
    "arith.remf": _call("math::fmod"),
    "arith.negf": lambda op, x: f"-({x[0]})" if x[0].startswith("-") else f"-{x[0]}",
    "arith.maximumf": _exact("math::maximum_or_nan"),
    "arith.minimumf": _exact("math::minimum_or_nan"),
    "arith.maxnumf": _exact("math::fmax"),
    "arith.minnumf": _exact("math::fmin"),
    "arith.cmpf": _compare_floats,
    "arith.cmpi": _compare_integers,
    "arith.select": lambda op, x: f"{x[0]} ? {x[1]} : {x[2]}",
    "arith.addi": _ring("+", "!="),
    "arith.subi": _ring("-", "!="),
    "arith.muli": _ring("*", "&&"),
    "arith.andi": _ring("&", "&&"),
    "arith.ori": _ring("|", "||"),
    "arith.xori": _ring("^", "!="),
    "arith.shli": _unsigned("{0} << {1}"),
    "arith.shrsi": _infix(">>"),
    "arith.shrui": _unsigned("{0} >> {1}"),
    "arith.divsi": _integer_call("math::quotient"),
    "arith.divui": _unsigned("math::quotient({0}, {1})"),
    "arith.remsi": _integer_call("math::remainder"),
    "arith.remui": _unsigned("math::remainder({0}, {1})"),
    "arith.floordivsi": _integer_call("math::floor_quotient"),
    "arith.ceildivsi": _integer_call("math::ceil_quotient"),
    "arith.maxsi": lambda op, x: f"{x[0]} > {x[1]} ? {x[0]} : {x[1]}",
    "arith.minsi": lambda op, x: f"{x[0]} < {x[1]} ? {x[0]} : {x[1]}",
    "arith.maxui": _unsigned("({0} > {1} ? {0} : {1})"),
    "arith.minui": _unsigned("({0} < {1} ? {0} : {1})"),
    "arith.extf": _convert,
    "arith.truncf": _convert,
    "arith.sitofp": _convert,
    "arith.uitofp": _convert_unsigned,
    "arith.extsi": _extend,
    "arith.extui": _convert_unsigned,
    "arith.trunci": _truncate,
    "arith.index_cast": lambda op, x: f"{held_type(_result(op))}({x[0]})",
    "arith.index_castui": _convert_unsigned,
    "arith.fptosi": _to_integer,
    "arith.fptoui": _to_integer,
    "arith.bitcast": _bitcast,
    "math.absf": _exact("math::fabs"),
    "math.absi": _absolute_integer,
    "math.copysign": _exact("math::copysign"),
    "math.round": _exact("math::round"),
    "math.roundeven": _exact("math::rint"),
    "math.floor": _exact("math::floor"),
    "math.ceil": _exact("math::ceil"),
    "math.trunc": _exact("math::trunc"),
    "math.powf": _call("math::pow"),
    "math.fpowi": _integer_power,
    "math.ipowi": _integer_call("math::power"),
    "math.fma": _call("math::fma"),
    "math.isnan": lambda op, x: f"{x[0]} != {x[0]}",
    "math.isinf": lambda op, x: f"{x[0]} - {x[0]} != 0 && {x[0]} == {x[0]}",
    "math.isfinite": lambda op, x: f"{x[0]} - {x[0]} == 0",
} | {
    f"math.{name}": _call(f"math::{name}")
    for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "erf",
        "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "rsqrt", "sin", "sinh", "sqrt",
        "tan", "tanh",
    )
}  # fmt: skip

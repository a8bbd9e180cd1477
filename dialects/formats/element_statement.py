"""An element statement's checked attributes to its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .definition import Element, HalfStepInteger, Integer, Minifloat, Nested, Table, Uniform

Fail = Callable[[str], None]


def build_element(kind: str, values: Mapping[str, Any], fail: Fail) -> Element:
    """The record of an element statement; `fail` reports a combination that has no meaning."""
    return _BUILDERS[kind](values, fail)


def _minifloat(values: Mapping[str, Any], fail: Fail) -> Element:
    element = Minifloat(**values)
    if element.bits not in (*range(4, 9), 16, 32):
        fail(f"a minifloat of {element.bits} bits; 4 to 8, 16 and 32 are possible")
    if element.exponent == 8 and (element.mantissa not in (7, 23) or element.specials != "ieee"):
        fail("an 8-bit exponent is for bf16 (mantissa=7) and fp32 (mantissa=23), specials=ieee")
    if element.bits == 32 and element.exponent != 8:
        fail("the only minifloat of 32 bits is exponent=8 mantissa=23")
    if element.overflow == "infinity" and element.specials != "ieee":
        fail("overflow=infinity needs specials=ieee")
    return element


def _integer(values: Mapping[str, Any], fail: Fail) -> Element:
    bits, signed = values["bits"], values["signed"]
    symmetric = values.get("range", "full") == "symmetric"
    if symmetric and not signed:
        fail("range=symmetric is for signed integers")
    middle = values.get("offset", "none") == "middle"
    if middle and signed:
        fail("offset=middle is for unsigned integers")
    half = 1 << (bits - 1)
    return Integer(
        bits=bits,
        signed=signed,
        low=(1 - half if symmetric else -half) if signed else 0,
        high=half - 1 if signed else 2 * half - 1,
        fraction_bits=values.get("fraction_bits", 0),
        offset=half if middle else 0,
        rounding=values.get("rounding", "even"),
    )


def _half_step_integer(values: Mapping[str, Any], fail: Fail) -> Element:
    count = 1 << values["bits"]
    fraction = values.get("fraction", 0.5)
    if fraction >= 1:
        fail("fraction must be below 1")
    top = count - 3
    return HalfStepInteger(
        bits=values["bits"],
        top=top,
        plus=count - 2,
        minus=count - 1,
        fraction=fraction,
        offset=(top + 1) // 2 if values.get("offset", "none") == "middle" else 0,
    )


def _uniform(values: Mapping[str, Any], fail: Fail) -> Element:
    count = 1 << values["bits"]
    if count == 2 and values.get("zero_level", False):
        fail("one bit has no level for zero")
    return Uniform(values["bits"], count - 2 if values.get("zero_level", False) else count - 1)


def _table(values: Mapping[str, Any], fail: Fail) -> Element:
    table = values["values"]
    if len(table) < 2 or len(table) & (len(table) - 1):
        fail(f"a table of {len(table)} values; a power of two from 2 to 256 is needed")
    elif len(set(table)) < 2:
        fail("a table needs two different values")
    elif not 1e-30 <= max(map(abs, table)) <= 1e30:
        fail("the largest magnitude of a table lies between 1e-30 and 1e30")
    return Table(table)


def _nested(values: Mapping[str, Any], fail: Fail) -> Element:
    del values, fail
    return Nested()


_BUILDERS: dict[str, Callable[[Mapping[str, Any], Fail], Element]] = {
    "minifloat": _minifloat,
    "integer": _integer,
    "dint": _half_step_integer,
    "uniform": _uniform,
    "table": _table,
    "nested": _nested,
}

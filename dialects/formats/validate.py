"""Which elements, scales and zero points go together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from .definition import HalfStepInteger, Integer, Minifloat, Nested, Scale, Table, Uniform
from .number_format import Format
from .scales import SCALE_MINIFLOATS

Fail = Callable[[str, str], None]
POWER_OF_TWO_RULES = ("floor", "ceil", "even", "rceil")
ELEMENTS_OF_RULE = {
    **dict.fromkeys(POWER_OF_TWO_RULES, (Minifloat, Integer)),
    "absmax": (Minifloat, Integer, Table),
    "range": (Integer, HalfStepInteger),
    "clip": (Uniform,),
    "inverse": (Integer,),
}
SHAPING = ("rounding", "minimum", "flush", "compat", "value", "c1", "c2")
_DEFAULTS = {field.name: field.default for field in fields(Scale)}


def check_format(fmt: Format, fail: Fail) -> None:
    """Report through `fail(statement, what)` a composition that has no meaning."""
    _check_scale_count(fmt, fail)
    for scale in fmt.block_scales:
        _check_scale(fmt, scale, fail)
    if fmt.second_level is not None:
        _check_second_level(fmt, fmt.second_level, fail)
        _check_attributes(fmt.second_level, fail)
    _check_zero_point(fmt, fail)
    if isinstance(fmt.element, Nested) != (fmt.admits is not None):
        fail("admit", "a nested element, and no other, needs an admit statement")
    if fmt.admits is not None and not fmt.admits.max_abs <= fmt.admits.limit <= 1.875:
        fail("admit", "max_abs <= limit <= 1.875 must hold")
    for view in fmt.views:
        if not isinstance(fmt.element, Nested) or view.format != "fp8_e4m3" or view.part != "upper":
            fail("view", "the one possible view is fp8_e4m3 on the upper plane of a nested element")


def _check_scale_count(fmt: Format, fail: Fail) -> None:
    signs = [scale.of for scale in fmt.block_scales]
    if signs not in ([], ["all"], ["positive", "negative"]):
        fail("scale", "a block has one scale, or one of=positive and one of=negative")
    if len(signs) == 2 and not isinstance(fmt.element, Minifloat):
        fail("scale", "a scale for each sign needs a minifloat element")
    if isinstance(fmt.element, Nested) and (signs or fmt.byte_codes):
        fail("scale", "a nested element has neither scales nor packing")
    if not signs and not isinstance(fmt.element, Integer | Minifloat | Nested | Table):
        fail("element", "a dint or uniform element needs a scale")
    if fmt.byte_codes and fmt.bits > 8:
        fail("pack", "pack bytes is for codes of at most 8 bits")


def _check_scale(fmt: Format, scale: Scale, fail: Fail) -> None:
    element = fmt.element
    if not isinstance(element, ELEMENTS_OF_RULE[scale.rule]):
        fail("scale", f"rule={scale.rule} does not fit this kind of element")
    if (scale.type == "e8m0") != (scale.rule in POWER_OF_TWO_RULES):
        fail("scale", "type=e8m0 goes with the rules floor, ceil, even and rceil, and no others")
    if scale.rule in ("clip", "inverse") and scale.type != "fp32":
        fail("scale", f"rule={scale.rule} needs type=fp32")
    if scale.rule == "range" and scale.type not in ("fp16", "bf16", "fp32"):
        fail("scale", "rule=range needs type=fp32, fp16 or bf16")
    if isinstance(element, Integer):
        if scale.rule in (*POWER_OF_TWO_RULES, "absmax") and element.low != -element.high:
            fail("scale", f"rule={scale.rule} needs a signed integer of range=symmetric")
        if scale.rule == "range" and element.fraction_bits:
            fail("element", "fraction_bits has no meaning with rule=range")
        if scale.rule == "inverse" and (element.signed or element.offset or element.fraction_bits):
            fail("scale", "rule=inverse needs a plain unsigned integer")
    if scale.apply == "reciprocal" and (scale.rule != "absmax" or scale.type == "fp32"):
        fail("scale", "apply=reciprocal is for absmax scales of a minifloat type")
    _check_attributes(scale, fail)


def _check_attributes(scale: Scale, fail: Fail) -> None:
    """Refuse an attribute that nothing reads: who wrote it expects another scale."""
    for name in SHAPING:
        value = getattr(scale, name)
        if value != _DEFAULTS[name] and name not in _read(scale):
            fail("scale", f"rule={scale.rule} with type={scale.type} does not read {name}={value}")
    if scale.rule == "clip" and scale.value not in ("sawb", "mse") and isinstance(scale.value, str):
        fail("scale", "rule=clip takes value=sawb, value=mse or a number")


def _read(scale: Scale) -> tuple[str, ...]:
    """The attributes, of those in SHAPING, that a scale of this rule and type follows."""
    rounded = () if scale.type == "fp32" else ("rounding", "flush")
    match scale.rule:
        case "absmax":
            return ("minimum", *rounded)
        case "range":
            return rounded
        case "clip":
            return ("value", "c1", "c2")
        case "inverse" | "second_level":
            return ("value",)
    return ("compat",)


def _check_second_level(fmt: Format, level: Scale, fail: Fail) -> None:
    types = {scale.type for scale in fmt.block_scales}
    if level.type != "fp32" or len(types) != 1 or not types <= set(SCALE_MINIFLOATS):
        fail("scale", "a second_level scale is fp32, above block scales of one minifloat type")


def _check_zero_point(fmt: Format, fail: Fail) -> None:
    element, kind = fmt.element, fmt.zero_point
    rules = {scale.rule for scale in fmt.block_scales}
    if isinstance(element, Integer | HalfStepInteger) and rules == {"range"}:
        signed = isinstance(element, Integer) and element.signed
        if kind is not None and kind != ("int8" if signed else "uint8"):
            fail("zero_point", "the zero point has the signedness of the element")
        if kind is not None and element.offset:
            fail("zero_point", "offset=middle fixes the zero point; none can be stored")
        if kind is not None and isinstance(element, Integer) and element.low == -element.high:
            fail("zero_point", "a zero point needs range=full")
        if kind is None and element.lowest == 0:
            fail("element", "negative values need a zero point or offset=middle")
    elif kind is not None:
        fail("zero_point", "a zero point goes with rule=range")

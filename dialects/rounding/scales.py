"""
Scale rules as scalar arithmetic: from the extent of a block to the factors of its elements.

The rules of dialects/formats/scales.py operation by operation, so that a kernel's scales are the
very numbers that the NumPy encoder stores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..formats import Format, Range
from ..formats.definition import (
    Element,
    HalfStepInteger,
    Integer,
    Minifloat,
    Scale,
    Table,
    Uniform,
)
from ..formats.elements import element_values
from ..formats.minifloats import minifloat_values
from ..formats.scales import E8M0_LARGEST, SCALE_MINIFLOATS, SMALLEST_E8M0
from ..formats.scales import decode_scale as stored_scale
from .elements import (
    MANTISSA,
    bits_of,
    clamp,
    float_of,
    larger,
    minifloat_code,
    round_magnitude,
    smaller,
)
from .values import (
    Val,
    broadcast,
    constant,
    double_to_single,
    i32,
    maximum,
    minimum,
    round_even,
    scalar,
    select,
    single_to_double,
    widen,
)

FRACTION_BITS = (1 << MANTISSA) - 1
LARGEST_FLOAT = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Extent:
    """Largest magnitudes below and above zero, fp32 scalars that are not negative."""

    low: Val
    high: Val

    def of(self, sign: str) -> Val:
        if sign == "all":
            return larger(self.low, self.high)
        return self.high if sign == "positive" else self.low


@dataclass(frozen=True, slots=True)
class Factor:
    """
    What inputs are multiplied (or else divided) by, and what rounded values are then.

    `stored` is the scale as a packed row holds it: a float, or the code of a smaller type in i32.
    """

    encode: Val
    decode: Val
    stored: Val
    encode_multiplies: bool = False
    decode_multiplies: bool = True

    def scaled(self, x: Val) -> Val:
        return x * self.encode if self.encode_multiplies else x / self.encode

    def restored(self, value: Val) -> Val:
        return value * self.decode if self.decode_multiplies else value / self.decode

    def widened(self, lanes: int) -> Factor:
        encode, decode = broadcast(self.encode, lanes), broadcast(self.decode, lanes)
        return replace(self, encode=encode, decode=decode)


@dataclass(frozen=True, slots=True)
class Scaling:
    """A block's factors, one or one for each sign (above zero first), and its zero point."""

    factors: tuple[Factor, ...] = ()
    zero_point: Val | None = None

    def widened(self, lanes: int) -> Scaling:
        """Every scalar as a vector."""
        zero_point = None if self.zero_point is None else broadcast(self.zero_point, lanes)
        return Scaling(tuple(factor.widened(lanes) for factor in self.factors), zero_point)


def derive_scaling(fmt: Format, extent: Extent, tensor_scale: Val | None) -> Scaling:
    """The factors of one block; `tensor_scale` is the second level's."""
    factors = tuple(_factor(fmt, scale, extent, tensor_scale) for scale in fmt.block_scales)
    if fmt.zero_point is None:
        return Scaling(factors)
    return Scaling(factors, _zero_point(fmt.element, extent, factors[0].encode))


def static_numbers(fmt: Format, tensor_range: Range) -> list[float]:
    """
    What `static_scaling` and a second level read of a tensor of known range: the numbers of the
    NumPy encoder, found at compile time.
    """
    found = fmt.tensor_scales(tensor_range)
    numbers: list[float] = []
    if found.blocks is not None:
        for scale, derived in zip(fmt.block_scales, found.blocks.scales, strict=True):
            decoded = stored_scale(scale.type, derived.stored)
            numbers += [float(derived.factor[0]), float(decoded[0])]
        if found.blocks.zero_point is not None:
            numbers.append(float(found.blocks.zero_point[0]))
    elif found.second_level is not None:
        numbers.append(float(found.second_level))
    return numbers


def static_scaling(fmt: Format, number: Callable[[int], Val]) -> Scaling:
    """The factors of a per-tensor format, whose `static_numbers` are number(0), number(1), …"""
    # Whether an encoder multiplies is the format's own matter: any range tells.
    blocks = fmt.tensor_scales((-1.0, 1.0)).blocks
    assert blocks is not None
    factors = tuple(
        Factor(
            number(2 * index),
            decoded := number(2 * index + 1),
            decoded,
            encode_multiplies=derived.multiply,
            decode_multiplies=scale.rule != "inverse",
        )
        for index, (scale, derived) in enumerate(zip(fmt.block_scales, blocks.scales, strict=True))
    )
    zero_point = None if fmt.zero_point is None else number(2 * len(factors))
    return Scaling(factors, zero_point)


def second_level_scale(fmt: Format, level: Scale, extent: Extent) -> Val:
    """formats.md 4.4: the largest magnitude over the largest a block holds, or a given number."""
    if not isinstance(level.value, str):
        return scalar(level.value)
    capacity = SCALE_MINIFLOATS[fmt.block_scales[0].type].largest * fmt.element.largest
    return _one_unless_positive(extent.of("all") / capacity)


def _factor(fmt: Format, scale: Scale, extent: Extent, tensor_scale: Val | None) -> Factor:
    element, largest = fmt.element, extent.of(scale.of)
    if scale.type == "e8m0":
        assert isinstance(element, Minifloat | Integer)
        return _power_of_two(scale, element, largest)
    if scale.rule == "range":
        return _covering_range(scale, element, extent, fmt.zero_point is not None)
    if scale.rule == "clip":
        return _zero_where_empty(element, scalar(float(scale.value)))
    if scale.rule == "inverse":
        return _inverse(scale, element, largest)
    return _largest_over(scale, element, largest, tensor_scale)


def _power_of_two(scale: Scale, element: Minifloat | Integer, largest: Val) -> Factor:
    """formats.md 4.3; `encode` is the exact inverse of `decode`, but for the torchao hazard."""
    if scale.rule == "rceil":
        bits = bits_of(largest / element.largest)
        above = widen(bits.compare("gt", SMALLEST_E8M0), i32())
        codes = (bits >> MANTISSA) + (_has_fraction(bits) & above)
    else:
        bits = bits_of(largest)
        if scale.rule == "even":
            bits = bits + (1 << (MANTISSA - 1 - element.mantissa))
        codes = (bits >> MANTISSA) - element.max_exponent
        if scale.rule == "ceil":
            codes = codes + _has_fraction(bits)
    codes = minimum(maximum(codes, constant(0, i32())), E8M0_LARGEST)
    inverse = (constant(E8M0_LARGEST, i32()) - codes) << MANTISSA
    smallest = constant(SMALLEST_E8M0, i32())
    inverse = select(codes.compare("eq", E8M0_LARGEST), smallest, inverse)
    if scale.compat == "torchao":  # formats.md hazard 9
        exponent = 127 if scale.rule == "rceil" else 253
        inverse = select(codes.compare("eq", 0), constant(exponent << MANTISSA, i32()), inverse)
    return Factor(float_of(inverse), _power_of_two_of(codes), codes, encode_multiplies=True)


def _power_of_two_of(codes: Val) -> Val:
    """2^(code - 127); the code 0 stands for a subnormal number."""
    smallest = constant(SMALLEST_E8M0, codes.type)
    return float_of(maximum(codes << MANTISSA, smallest))


def _has_fraction(bits: Val) -> Val:
    """1 where a float is no power of two, else 0."""
    return widen((bits & FRACTION_BITS).compare("ne", 0), i32())


def _largest_over(scale: Scale, element: Element, largest: Val, tensor_scale: Val | None) -> Factor:
    """The zero guard precedes the rounding of the scale (formats.md 1.2, hazards 1 and 2)."""
    wanted = largest / element.largest
    if tensor_scale is not None:
        wanted = wanted / tensor_scale
    if scale.minimum:
        wanted = larger(wanted, scale.minimum)
    if scale.type == "fp32":
        return _zero_where_empty(element, wanted)
    stored, code = _rounded(scale, _one_unless_positive(wanted))
    encode = decode = stored if tensor_scale is None else stored * tensor_scale
    if _lacks_zero(element):
        some = wanted.compare("gt", 0.0)
        decode = select(some, decode, scalar(0.0))
        code = select(some, code, constant(0, i32()))
    if scale.apply == "reciprocal":
        numerator = scalar(1.0) if tensor_scale is None else scalar(1.0) / tensor_scale
        return Factor(numerator / stored, decode, code, encode_multiplies=True)
    return Factor(encode, decode, code)


def _rounded(scale: Scale, wanted: Val) -> tuple[Val, Val]:
    """A positive scale rounded to a minifloat, and its code, which is not zero."""
    kind = replace(SCALE_MINIFLOATS[scale.type], rounding=scale.rounding)
    rounded = round_magnitude(kind, wanted)
    flushed = float(minifloat_values(kind)[1]) if scale.flush == "smallest" else 1.0
    stored = select(rounded.compare("eq", 0.0), scalar(flushed), rounded)
    return stored, minifloat_code(kind, stored)


def _zero_where_empty(element: Element, wanted: Val) -> Factor:
    """A block of zeros is decoded with scale zero if the element itself has no zero."""
    guarded = _one_unless_positive(wanted)
    decode = wanted if _lacks_zero(element) else guarded
    return Factor(guarded, decode, decode)


def _lacks_zero(element: Element) -> bool:
    return isinstance(element, Table | Uniform) and 0 not in element_values(element)


def _covering_range(scale: Scale, element: Element, extent: Extent, affine: bool) -> Factor:
    """
    The finest step whose codes reach both ends, rounded to the scale's type; computed wide so that
    no span overflows.
    """
    assert isinstance(element, Integer | HalfStepInteger)
    low, high = single_to_double(extent.low), single_to_double(extent.high)
    if affine:
        wide = (low + high) / _code_span(element)
    else:
        wide = larger(high / element.largest, low / -element.lowest)
    steps = double_to_single(wide)
    guarded = select(steps.compare("eq", 0.0), scalar(1.0), steps)
    if scale.type == "fp32":
        return Factor(guarded, guarded, guarded)
    stored, code = _rounded(scale, guarded)
    return Factor(stored, stored, code)


def _zero_point(element: Element, extent: Extent, steps: Val) -> Val:
    assert isinstance(element, Integer | HalfStepInteger)
    first = element.low if isinstance(element, Integer) else 0
    return clamp(round_even(extent.low / steps), 0, _code_span(element)) + float(first)


def _code_span(element: Integer | HalfStepInteger) -> int:
    return element.high - element.low if isinstance(element, Integer) else element.top


def _inverse(scale: Scale, element: Element, largest: Val) -> Factor:
    """formats.md 5.1: S = (1 / clip) * levels, by which codes are divided on decoding."""
    clip = largest if isinstance(scale.value, str) else scalar(scale.value)
    levels = scalar(1.0) / _one_unless_positive(clip) * element.largest
    inverse = smaller(levels, LARGEST_FLOAT)
    return Factor(inverse, inverse, inverse, encode_multiplies=True, decode_multiplies=False)


def _one_unless_positive(value: Val) -> Val:
    return select(value.compare("gt", 0.0), value, scalar(1.0))

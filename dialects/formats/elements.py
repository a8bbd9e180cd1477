"""
What each kind of element does with a scaled input, and what its codes mean.

An encoder takes float32 inputs already divided by their scale, and writes one unsigned code each.
Minifloats work on magnitudes (minifloats.py); the kinds here are those that are linear or a table.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .definition import Element, HalfStepInteger, Integer, Minifloat, Nested, Plane, Table, Uniform
from .minifloats import minifloat_values
from .scratch import Scratch

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
HALF = Minifloat(exponent=5, mantissa=10, specials="ieee")


@lru_cache(maxsize=256)
def element_values(element: Element) -> Floats:
    """
    float32[2**bits]: the value of each code before zero point and scale.

    >>> element_values(Integer(bits=3, signed=True, low=-3, high=3)).tolist()
    [0.0, 1.0, 2.0, 3.0, -4.0, -3.0, -2.0, -1.0]
    >>> element_values(HalfStepInteger(bits=3, top=5, plus=6, minus=7)).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.5, -0.5]
    """
    if isinstance(element, Minifloat):
        return minifloat_values(element)
    if isinstance(element, Nested):
        return minifloat_values(HALF)
    values = _VALUES[type(element)](element)
    values.flags.writeable = False
    return values


def _integer_values(element: Integer) -> Floats:
    codes = np.arange(1 << element.bits)
    if element.signed:
        codes = np.where(codes >> (element.bits - 1), codes - (1 << element.bits), codes)
    return ((codes - element.offset) / (1 << element.fraction_bits)).astype(np.float32)


def _half_step_values(element: HalfStepInteger) -> Floats:
    values = (np.arange(1 << element.bits) - element.offset).astype(np.float32)
    values[element.plus] = element.fraction
    values[element.minus] = -element.fraction
    return values


def _uniform_values(element: Uniform) -> Floats:
    """formats.md 5.2, in the reference's order: 2 q / n - 1."""
    levels = np.arange(1 << element.bits).astype(np.float32)
    return levels * np.float32(2) / np.float32(element.steps) - np.float32(1)


def _table_values(element: Table) -> Floats:
    return np.array(element.values, np.float32)


def _plane_values(element: Plane) -> Floats:
    return minifloat_values(element.codes) * np.float32(element.factor)


_VALUES = {
    Integer: _integer_values,
    HalfStepInteger: _half_step_values,
    Uniform: _uniform_values,
    Table: _table_values,
    Plane: _plane_values,
}


def encode_linear(
    element: Integer | HalfStepInteger | Uniform | Table,
    inputs: Floats,
    zero_point: Floats | None,
    codes: Bytes,
    scratch: Scratch,
) -> None:
    """
    Write uint8 codes of `inputs`, which are overwritten; `zero_point` broadcasts against them.
    """
    if isinstance(element, Integer):
        _encode_integer(element, inputs, zero_point, codes, scratch)
    elif isinstance(element, HalfStepInteger):
        _encode_half_steps(element, inputs, zero_point, codes, scratch)
    elif isinstance(element, Uniform):
        _encode_uniform(element, inputs, codes, scratch)
    else:
        _encode_table(element, inputs, codes, scratch)


def _encode_integer(
    element: Integer, inputs: Floats, zero_point: Floats | None, codes: Bytes, scratch: Scratch
) -> None:
    if element.fraction_bits:
        np.multiply(inputs, np.float32(1 << element.fraction_bits), out=inputs)
    if element.rounding == "nearest":  # see minifloats.py: no tie has its last bit set
        bits = inputs.view(np.uint32)
        np.bitwise_or(bits, np.uint32(1), out=bits)
    (np.trunc if element.rounding == "floor" else np.rint)(inputs, out=inputs)
    if zero_point is not None:
        np.add(inputs, zero_point, out=inputs)
    elif element.offset:
        np.add(inputs, np.float32(element.offset), out=inputs)
    _clamp(inputs, element.low, element.high, scratch)
    np.copyto(codes.view(np.int8) if element.signed else codes, inputs, casting="unsafe")
    if element.signed and element.bits < 8:
        np.bitwise_and(codes, np.uint8((1 << element.bits) - 1), out=codes)


def _encode_half_steps(
    element: HalfStepInteger,
    inputs: Floats,
    zero_point: Floats | None,
    codes: Bytes,
    scratch: Scratch,
) -> None:
    special = scratch.array("special", inputs.shape, np.bool_)
    inside = scratch.array("inside", inputs.shape, np.bool_)
    negative = scratch.array("negative", inputs.shape, np.bool_)
    magnitudes = scratch.array("magnitudes", inputs.shape, np.float32)
    np.abs(inputs, out=magnitudes)
    np.greater(magnitudes, np.float32(element.fraction / 2), out=special)
    np.less(magnitudes, np.float32((1 + element.fraction) / 2), out=inside)
    np.logical_and(special, inside, out=special)
    np.less(inputs, np.float32(0), out=negative)
    np.rint(inputs, out=inputs)
    np.add(inputs, np.float32(element.offset) if zero_point is None else zero_point, out=inputs)
    _clamp(inputs, 0, element.top, scratch)
    np.copyto(codes, inputs, casting="unsafe")
    # Branch-free select on bytes: all ones where the special code replaces the uniform one.
    mask, chosen = special.view(np.uint8), inside.view(np.uint8)
    np.negative(mask, out=mask)
    np.multiply(negative.view(np.uint8), np.uint8((element.minus - element.plus) % 256), out=chosen)
    np.add(chosen, np.uint8(element.plus), out=chosen)
    np.bitwise_xor(chosen, codes, out=chosen)
    np.bitwise_and(chosen, mask, out=chosen)
    np.bitwise_xor(codes, chosen, out=codes)


def _encode_uniform(element: Uniform, inputs: Floats, codes: Bytes, scratch: Scratch) -> None:
    """formats.md 5.2: q = RNE((clip(w / a, -1, 1) + 1) / 2 * n)."""
    _clamp(inputs, -1, 1, scratch)
    np.add(inputs, np.float32(1), out=inputs)
    np.divide(inputs, np.float32(2), out=inputs)
    np.multiply(inputs, np.float32(element.steps), out=inputs)
    np.rint(inputs, out=inputs)
    np.copyto(codes, inputs, casting="unsafe")


def _encode_table(element: Table, inputs: Floats, codes: Bytes, scratch: Scratch) -> None:
    boundaries, code_of_rank = table_ranks(element)
    if len(boundaries) <= 16:
        reached = scratch.array("reached", inputs.shape, np.bool_)
        codes.fill(0)
        for boundary in boundaries:
            np.greater_equal(inputs, boundary, out=reached)
            np.add(codes, reached.view(np.uint8), out=codes)
    else:
        np.copyto(codes, np.searchsorted(boundaries, inputs, side="right"), casting="unsafe")
    if code_of_rank is not None:
        np.take(code_of_rank, codes, out=codes, mode="clip")


@lru_cache(maxsize=64)
def table_ranks(element: Table) -> tuple[Floats, Bytes | None]:
    """
    Boundaries between the distinct values in order, and the code of each rank.

    An input halfway between two values takes the lower one: a boundary is the smallest float32
    above the exact midpoint. The permutation is None where codes already ascend.
    """
    values = element_values(element)
    distinct, code_of_rank = np.unique(values, return_index=True)
    wide = distinct.astype(np.float64)
    middles = (wide[1:] + wide[:-1]) / 2
    boundaries = middles.astype(np.float32)
    low = boundaries.astype(np.float64) <= middles
    boundaries[low] = np.nextafter(boundaries[low], np.float32(np.inf))
    ascending = np.array_equal(code_of_rank, np.arange(len(code_of_rank)))
    return boundaries, None if ascending else code_of_rank.astype(np.uint8)


def _clamp(inputs: Floats, low: float, high: float, scratch: Scratch) -> None:
    shape = inputs.shape
    np.maximum(inputs, scratch.filled("low", shape, np.float32(low)), out=inputs)
    np.minimum(inputs, scratch.filled("high", shape, np.float32(high)), out=inputs)

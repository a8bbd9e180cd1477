"""
Scale rules: from the extent of a block to what is stored and what elements are scaled by.

A rule gets the largest magnitude of a block's elements (by sign, where a scale serves one sign)
and returns the stored array and its float32 meaning. Exponents come from bit fields only. A block
of zeros gets a harmless scale, never a NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .definition import Element, HalfStepInteger, Integer, Minifloat, Scale, Table, Uniform
from .elements import element_values
from .layout import SCALE_DTYPES
from .minifloats import Floats, encode_magnitudes, minifloat_values
from .scratch import Scratch

if TYPE_CHECKING:
    from .number_format import Format

SCALE_MINIFLOATS = {
    "e5m2": Minifloat(exponent=5, mantissa=2, specials="ieee"),
    "e4m3": Minifloat(exponent=4, mantissa=3, specials="nan"),
    "e4m3max480": Minifloat(exponent=4, mantissa=3),
    "fp16": Minifloat(exponent=5, mantissa=10, specials="ieee"),
    "bf16": Minifloat(exponent=8, mantissa=7, specials="ieee"),
}
E8M0_BIAS = 127
E8M0_LARGEST = 254  # 255 is NaN
SMALLEST_E8M0 = 0x00400000  # 2**-127 as bits of fp32, a subnormal


@dataclass(frozen=True, slots=True)
class Extent:
    """
    What scale rules may know of each block, arrays [n].

    `low` and `high` are the largest magnitudes below and above zero, both >= 0; the means are
    taken only for formats whose clip needs them.
    """

    low: Floats
    high: Floats
    mean_square: NDArray[np.float64] | None = None
    mean_magnitude: NDArray[np.float64] | None = None

    def of(self, sign: str) -> Floats:
        if sign == "all":
            return np.maximum(self.low, self.high)
        return self.high if sign == "positive" else self.low


class Derived(NamedTuple):
    """A scale as stored, and what an encoder multiplies (or else divides) elements by."""

    stored: NDArray[Any]
    factor: Floats
    multiply: bool


@dataclass(slots=True)
class BlockScales:
    """Everything derived for n blocks: stored arrays by role, scales in order, zero points."""

    stored: dict[str, NDArray[Any]] = field(default_factory=dict)
    scales: list[Derived] = field(default_factory=list)
    zero_point: Floats | None = None


def derive_scales(
    fmt: Format,
    extent: Extent,
    *,
    tensor_scale: np.float32 | None = None,
    clip: Floats | None = None,
) -> BlockScales:
    """The scales of each block: under a second-level scale, and with the clip a search found."""
    result = BlockScales()
    element, zero_point = fmt.element, fmt.zero_point
    for scale in fmt.block_scales:
        if scale.rule in ("floor", "ceil", "even", "rceil"):
            derived = _power_of_two(scale, element, extent.of(scale.of))
        elif scale.rule == "range":
            derived = _covering_range(scale, element, extent, zero_point)
        elif scale.rule == "clip":
            found = _clip(scale, extent) if clip is None else clip
            derived = _zero_where_empty(element, found, np.where(found > 0, found, np.float32(1)))
        elif scale.rule == "inverse":
            derived = _inverse(scale, element, extent.of(scale.of))
        else:
            derived = _largest_over(scale, element, extent.of(scale.of), tensor_scale)
        result.stored[scale.role] = derived.stored
        result.scales.append(derived)
    if zero_point is not None:
        integers = _zero_points(element, extent, result.scales[0].factor)
        result.stored["zero_point"] = integers.astype(zero_point)
        result.zero_point = integers
    return result


def second_level_scale(scale: Scale, element: Element, block: Scale, largest: float) -> np.float32:
    """
    The fp32 factor of a whole tensor: its largest magnitude over the largest block's
    (formats.md 4.4), or the number the user gave. Decoding multiplies by it.
    """
    if not isinstance(scale.value, str):
        return np.float32(scale.value)
    capacity = SCALE_MINIFLOATS[block.type].largest * element.largest
    found = np.float32(largest) / np.float32(capacity)
    return found if found > 0 else np.float32(1)


def decode_scale(kind: str, stored: NDArray[Any]) -> Floats:
    """
    Stored scales as float32.

    >>> decode_scale("e8m0", np.array([0, 127, 130], np.uint8)).tolist() == [2.0**-127, 1.0, 8.0]
    True
    """
    if kind == "e8m0":
        bits = stored.astype(np.uint32) << np.uint32(23)
        bits[stored == 0] = SMALLEST_E8M0
        bits[stored == 255] = 0x7FC00000
        return bits.view(np.float32)
    if kind == "fp32":
        return stored.astype(np.float32, copy=False)
    return minifloat_values(SCALE_MINIFLOATS[kind])[stored]


def _power_of_two(scale: Scale, element: Element, largest: Floats) -> Derived:
    """formats.md 4.3; dividing by a power of two is multiplying by its exact inverse."""
    assert isinstance(element, Minifloat | Integer)
    if scale.rule == "rceil":
        bits = (largest / np.float32(element.largest)).view(np.int32)
        codes = (bits >> 23) + (((bits & 0x7FFFFF) != 0) & (bits > SMALLEST_E8M0))
    else:
        bits = largest.view(np.int32)
        carry = 0
        if scale.rule == "even":
            bits = bits + (1 << (22 - element.mantissa))
        elif scale.rule == "ceil":
            carry = (bits & 0x7FFFFF) != 0
        codes = (bits >> 23) - element.max_exponent + carry
    codes = np.clip(codes, 0, E8M0_LARGEST).astype(np.int32)
    inverse = (E8M0_LARGEST - codes) << 23
    inverse[codes == E8M0_LARGEST] = SMALLEST_E8M0
    if scale.compat == "torchao":  # hazard 9: code 0 encodes with another scale than it decodes to
        inverse[codes == 0] = (127 if scale.rule == "rceil" else 253) << 23
    return Derived(codes.astype(np.uint8), inverse.view(np.float32), multiply=True)


def _largest_over(
    scale: Scale, element: Element, largest: Floats, tensor_scale: np.float32 | None
) -> Derived:
    """
    The largest magnitude over the element's largest value, rounded to the scale's type.

    The zero guard precedes the rounding; a scale that then rounds to zero is flushed
    (formats.md 1.2, hazards 1 and 2).
    """
    wanted = largest / np.float32(element.largest)
    if tensor_scale is not None:
        with np.errstate(over="ignore"):  # values far beyond a given range: the scale saturates
            wanted = wanted / tensor_scale
    if scale.minimum:
        wanted = np.maximum(wanted, np.float32(scale.minimum))
    guarded = np.where(wanted > 0, wanted, np.float32(1))
    if scale.type == "fp32":
        return _zero_where_empty(element, wanted, guarded)
    codes, factor = _rounded(scale, guarded)
    if _lacks_zero(element):
        codes[wanted == 0] = 0
    if scale.apply == "reciprocal":
        numerator = np.float32(1) if tensor_scale is None else np.float32(1) / tensor_scale
        return Derived(codes, numerator / factor, multiply=True)
    if tensor_scale is not None:
        factor = factor * tensor_scale
    return Derived(codes, factor, multiply=False)


def _rounded(scale: Scale, wanted: Floats) -> tuple[NDArray[np.unsignedinteger], Floats]:
    """
    Positive scales, which are overwritten, rounded to a minifloat: codes, none of which is zero,
    and values.
    """
    kind = replace(SCALE_MINIFLOATS[scale.type], rounding=scale.rounding)
    codes = np.empty(wanted.shape, SCALE_DTYPES[scale.type])
    encode_magnitudes(kind, wanted, codes, Scratch())
    values = minifloat_values(kind)
    one_or_smallest = 1 if scale.flush == "smallest" else int(np.flatnonzero(values == 1)[0])
    codes[codes == 0] = one_or_smallest
    return codes, values[codes]


def _zero_where_empty(element: Element, wanted: Floats, guarded: Floats) -> Derived:
    """A block of zeros is decoded with scale zero if the element itself has no zero."""
    return Derived(wanted if _lacks_zero(element) else guarded, guarded, multiply=False)


def _lacks_zero(element: Element) -> bool:
    return isinstance(element, Table | Uniform) and 0 not in element_values(element)


def _covering_range(
    scale: Scale, element: Element, extent: Extent, zero_point: str | None
) -> Derived:
    """
    The finest step whose codes reach both ends, rounded to the scale's type; computed wide so that
    no span overflows. What rounding takes away is less than half a step at the ends.
    """
    assert isinstance(element, Integer | HalfStepInteger)
    low, high = extent.low.astype(np.float64), extent.high.astype(np.float64)
    if zero_point is not None:
        wide = (low + high) / _code_span(element)
    else:
        wide = np.maximum(high / element.largest, low / -element.lowest)
    steps = wide.astype(np.float32)
    steps[steps == 0] = 1
    if scale.type == "fp32":
        return Derived(steps, steps, multiply=False)
    return Derived(*_rounded(scale, steps), multiply=False)


def _zero_points(element: Element, extent: Extent, steps: Floats) -> Floats:
    assert isinstance(element, Integer | HalfStepInteger)
    first = element.low if isinstance(element, Integer) else 0
    # A step below the normal range is coarse enough for the quotient to leave the codes.
    return np.clip(np.rint(extent.low / steps), 0, _code_span(element)) + np.float32(first)


def _code_span(element: Integer | HalfStepInteger) -> int:
    return element.high - element.low if isinstance(element, Integer) else element.top


def _clip(scale: Scale, extent: Extent) -> Floats:
    """formats.md 5.2: c1 * rms + c2 * mean magnitude, or the largest where that is not positive."""
    largest = extent.of("all")
    if not isinstance(scale.value, str):
        return np.full(largest.shape, scale.value, np.float32)
    assert extent.mean_square is not None
    assert extent.mean_magnitude is not None
    clip = scale.c1 * np.sqrt(extent.mean_square) + scale.c2 * extent.mean_magnitude
    clip = np.minimum(clip, np.finfo(np.float32).max).astype(np.float32)
    return np.where(clip > 0, clip, largest)


def _inverse(scale: Scale, element: Element, largest: Floats) -> Derived:
    """formats.md 5.1: S = (1 / clip) * levels, by which codes are divided on decoding."""
    clip = largest if isinstance(scale.value, str) else np.full_like(largest, scale.value)
    clip = np.where(clip > 0, clip, np.float32(1))
    with np.errstate(over="ignore"):
        inverse = np.float32(1) / clip * np.float32(element.largest)
    inverse = np.minimum(inverse, np.finfo(np.float32).max)
    return Derived(inverse, inverse, multiply=True)


CLIP_SEARCH_FRACTIONS = np.linspace(0.2, 1.0, 41, dtype=np.float32)


def clip_candidates(scale: Scale, extent: Extent) -> Floats:
    """float32 [n, candidates]: fractions of the largest magnitude, then the closed form."""
    largest = extent.of("all")[:, None]
    return np.concatenate([largest * CLIP_SEARCH_FRACTIONS, _clip(scale, extent)[:, None]], axis=1)


def clip_error(element: Uniform, inputs: Floats, clip: Floats) -> NDArray[np.float64]:
    """float64 [n]: squared error of each row of `inputs` [n, k] under its own clip [n]."""
    bound = np.where(clip > 0, clip, np.float32(1))[:, None]
    half = np.float32(element.steps / 2)
    levels = np.rint((np.clip(inputs / bound, -1, 1) + 1) * half)
    error = (levels / half - 1) * bound - inputs
    return np.einsum("ij,ij->i", error, error, dtype=np.float64)

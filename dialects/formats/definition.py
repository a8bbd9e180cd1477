"""
The records a format definition is read into, and the facts derived from them.

`Format` (number_format.py) is composed of these: an element, a block, its scales and its packing.
They hold no arrays and no code that touches data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rounding = Literal["even", "nearest", "floor"]
BlockSize = int | Literal["channel", "tensor"]


@dataclass(frozen=True, slots=True)
class Minifloat:
    """
    Sign, exponent, mantissa, with subnormals; special values are a field, never a guess.

    `specials` is none (every code is finite), nan (the last code of each sign, as in E4M3fn) or
    ieee (the last exponent holds infinity and NaN).

    >>> Minifloat(exponent=4, mantissa=3, specials="nan").largest
    448.0
    >>> Minifloat(exponent=2, mantissa=1).largest
    6.0
    """

    exponent: int
    mantissa: int
    specials: Literal["none", "nan", "ieee"] = "none"
    overflow: Literal["saturate", "infinity"] = "saturate"
    rounding: Rounding = "even"
    signed_zero: bool = True

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.mantissa

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def min_exponent(self) -> int:
        """Unbiased exponent of the smallest normal number."""
        return 1 - self.bias

    @property
    def max_code(self) -> int:
        """Magnitude code of the largest finite value."""
        if self.specials == "ieee":
            return (((1 << self.exponent) - 1) << self.mantissa) - 1
        return (1 << (self.exponent + self.mantissa)) - (2 if self.specials == "nan" else 1)

    @property
    def max_exponent(self) -> int:
        """`emax` of formats.md 0.4: unbiased exponent of the largest finite value."""
        return (self.max_code >> self.mantissa) - self.bias

    @property
    def largest(self) -> float:
        fraction = self.max_code & ((1 << self.mantissa) - 1)
        return (1 + fraction / (1 << self.mantissa)) * 2.0**self.max_exponent


@dataclass(frozen=True, slots=True)
class Integer:
    """
    Uniform codes low..high of value (code - offset) / 2**fraction_bits.

    Signed codes are stored in two's complement. `offset` is a zero point fixed by the format.
    """

    bits: int
    signed: bool
    low: int
    high: int
    fraction_bits: int = 0
    offset: int = 0
    rounding: Rounding = "even"

    @property
    def largest(self) -> float:
        return (self.high - self.offset) / (1 << self.fraction_bits)

    @property
    def lowest(self) -> float:
        return (self.low - self.offset) / (1 << self.fraction_bits)

    @property
    def mantissa(self) -> int:
        """Fraction bits of a significand in [1, 2), as the E8M0 rule `even` wants them."""
        return self.fraction_bits

    @property
    def max_exponent(self) -> int:
        """Exponent of the largest magnitude, from its bits."""
        return self.high.bit_length() - 1 - self.fraction_bits


@dataclass(frozen=True, slots=True)
class HalfStepInteger:
    """
    dINT: uniform codes 0..top, then `plus` and `minus`, which mean +-fraction of a step.

    The special codes win where fraction/2 < |x| < (1 + fraction)/2 in steps (formats.md 2.1).
    """

    bits: int
    top: int
    plus: int
    minus: int
    fraction: float = 0.5
    offset: int = 0

    @property
    def largest(self) -> float:
        return float(self.top - self.offset)

    @property
    def lowest(self) -> float:
        return float(-self.offset)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Levels 0..steps spread evenly over [-1, 1], code q meaning 2 q / steps - 1 (SAWB)."""

    bits: int
    steps: int

    @property
    def largest(self) -> float:
        return 1.0


@dataclass(frozen=True, slots=True)
class Table:
    """A value for each code, in any order; an input between two values takes the nearer one."""

    values: tuple[float, ...]

    @property
    def bits(self) -> int:
        return (len(self.values) - 1).bit_length()

    @property
    def largest(self) -> float:
        return max(abs(value) for value in self.values)


@dataclass(frozen=True, slots=True)
class Nested:
    """An IEEE half whose bytes live in two planes, the upper one rounded (formats.md 3.1)."""

    @property
    def bits(self) -> int:
        return 16

    @property
    def largest(self) -> float:
        return 1.75

    @property
    def reads_as(self) -> str:
        """The format that both planes together are."""
        return "fp16"


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane of a nested half, read as codes of another element times `factor`."""

    part: str
    codes: Minifloat
    factor: float

    @property
    def bits(self) -> int:
        return self.codes.bits

    @property
    def largest(self) -> float:
        return self.codes.largest * self.factor


Element = Minifloat | Integer | HalfStepInteger | Uniform | Table | Nested | Plane


@dataclass(frozen=True, slots=True)
class Block:
    """How many neighbours of a row share scales, and whether the last may be fewer."""

    size: BlockSize
    ragged: bool


ScaleType = Literal["e8m0", "e5m2", "e4m3", "e4m3max480", "fp16", "bf16", "fp32"]
Rule = Literal[
    "floor", "ceil", "even", "rceil", "absmax", "range", "second_level", "clip", "inverse"
]


@dataclass(frozen=True, slots=True)
class Scale:
    """
    One shared factor of a block, or of the whole tensor for the rule second_level.

    `of` says which elements derive and use it; `rounding` and `minimum` shape it on its way into
    a minifloat type, `flush` says what a scale that rounds to zero becomes, `apply` whether an
    encoder divides by it or multiplies by its rounded reciprocal. `value` is a number the user
    gave (tensor scale, clip), or the name of the way to find it. `c1`, `c2` are SAWB's.
    """

    role: str
    type: ScaleType
    rule: Rule
    of: Literal["all", "positive", "negative"] = "all"
    rounding: Rounding = "even"
    minimum: float = 0.0
    flush: Literal["one", "smallest"] = "one"
    apply: Literal["divide", "reciprocal"] = "divide"
    compat: Literal["none", "torchao"] = "none"
    value: float | str = "auto"
    c1: float = 0.0
    c2: float = 0.0

    @property
    def reads_values(self) -> bool:
        """Whether the scale depends on the data, as one given as a number does not."""
        given = self.rule in ("clip", "inverse", "second_level")
        return not given or isinstance(self.value, str)


@dataclass(frozen=True, slots=True)
class ScaleDecoding:
    """
    How a stored scale becomes float32, for the code generators.

    kind: e8m0 (byte b means 2**(b - 127)), e5m2, e4m3, e4m3max480 (bytes), fp16, bf16 (their 16
    bits) or fp32. `of` is the sign of the elements it serves. With `divide` the element is divided
    by it. A `tensor` scale has one element for the whole array.
    """

    kind: ScaleType
    of: Literal["all", "positive", "negative"]
    divide: bool
    tensor: bool


@dataclass(frozen=True, slots=True)
class Admission:
    """Largest magnitude a compiler may give the format, and the bound that encoding needs."""

    max_abs: float
    limit: float


@dataclass(frozen=True, slots=True)
class View:
    """A built-in format that can be read from one stored plane, with a constant scale."""

    format: str
    part: str
    scale: float

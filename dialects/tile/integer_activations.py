"""Activations whose codes are numbers times one scale, and how matrix units can take them."""

from __future__ import annotations

from dataclasses import dataclass

from ..formats import parse_spelling
from ..formats.definition import Integer
from ..formats.number_format import Format

NIBBLE, BYTE = 4, 8


@dataclass(frozen=True)
class IntegerScale:
    """
    The fp32 scale of activations: one for each token, or for the whole `tensor`.

    Values are integers, or small floats, times the scale, or over it with `divide`; `role` is its
    part of the format.
    """

    role: str = "scale"
    tensor: bool = False
    divide: bool = False


OF_TOKENS, OF_TENSOR = IntegerScale(), IntegerScale(tensor=True)


def integer_scale(fmt: Format) -> IntegerScale | None:
    """
    The scale of a format whose values are integers times one number of a row or tensor, else None.

    >>> from qcc.dialects.formats import format
    >>> [integer_scale(format(name)) is not None for name in ("int4", "uint4", "nf4")]
    [True, False, False]
    >>> integer_scale(format("pact4"))
    IntegerScale(role='inverse_scale', tensor=True, divide=True)
    """
    element = fmt.element
    if not isinstance(element, Integer) or element.offset != 0 or element.bits > BYTE:
        return None
    return code_scale(fmt)


def code_scale(fmt: Format) -> IntegerScale | None:
    """The scale of a format whose values are its elements times one number of a row or tensor."""
    single = len(fmt.block_scales) == 1 and fmt.second_level is None and fmt.zero_point is None
    if not single or isinstance(fmt.block_size, int):
        return None
    (scale,) = fmt.block_scales
    decoding = fmt.scale_decoding(scale.role)
    if decoding.kind != "fp32":
        return None
    return IntegerScale(scale.role, fmt.block_size == "tensor", decoding.divide)


def float_operands(spelling: str) -> tuple[str, ...]:
    """
    The operand that codes of a format of small floats can be, with one scale or none.

    >>> float_operands("fp8_e4m3"), float_operands("fp8_e4m3<group=channel>")
    (('f8E4M3FN',), ('f8E4M3FN',))
    >>> float_operands("mxfp8_e4m3"), float_operands("int8")
    ((), ())
    """
    fmt = parse_spelling(spelling)
    if fmt.element != parse_spelling("fp8_e4m3").element:
        return ()
    return ("f8E4M3FN",) if not fmt.block_scales or code_scale(fmt) is not None else ()


def integer_operands(spelling: str) -> tuple[str, ...]:
    """
    The operands that codes of a format can be, those of fewest bits first.

    >>> integer_operands("int4"), integer_operands("pact4"), integer_operands("int8")
    (('i4', 'i8'), ('ui4', 'i8'), ('i8',))
    """
    fmt = parse_spelling(spelling)
    if integer_scale(fmt) is None or not isinstance(fmt.element, Integer):
        return ()
    signed = fmt.element.signed
    if fmt.element.bits > BYTE - (not signed):
        return ()
    nibbles = () if fmt.element.bits > NIBBLE else ("i4" if signed else "ui4",)
    return (*nibbles, "i8")


@dataclass(frozen=True)
class Requantisation:
    """
    How a value becomes an integer of a format with one scale for the tensor, known before:
    rounded to even after a product with its scale, or a division by it, and cut off at the ends.
    """

    low: int
    high: int
    multiplies: bool

    @staticmethod
    def of(spelling: str) -> Requantisation:
        """Raises ValueError for a format that `requantises` does not name."""
        fmt = parse_spelling(spelling)
        element, blocks = fmt.element, fmt.tensor_scales((-1.0, 1.0)).blocks
        if not requantises(spelling) or not isinstance(element, Integer) or blocks is None:
            raise ValueError(f"{spelling} has no integers with one scale")
        (scale,) = blocks.scales
        return Requantisation(int(element.low), int(element.high), scale.multiply)


def requantises(spelling: str) -> bool:
    """
    Whether values of a format are integers of a tensor with one scale, rounded to even.

    >>> requantises("int8<group=tensor>"), requantises("int8"), requantises("pact4")
    (True, False, True)
    """
    fmt = parse_spelling(spelling)
    scale = integer_scale(fmt)
    if scale is None or not scale.tensor or not integer_operands(spelling):
        return False
    return isinstance(fmt.element, Integer) and fmt.element.rounding == "even"

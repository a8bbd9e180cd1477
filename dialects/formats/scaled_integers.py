"""Formats whose values are integers times scales, so that products of them are exact."""

from __future__ import annotations

from .definition import Integer
from .number_format import Format


def holds_integers(fmt: Format) -> bool:
    """
    Whether values are signed integers of at most eight bits times one scale a block.

    >>> from qcc.dialects.formats import format
    >>> [holds_integers(format(name)) for name in ("int4", "uint8", "nvfp4")]
    [True, False, False]
    """
    element = fmt.element
    return (
        isinstance(element, Integer)
        and element.signed
        and element.offset == 0
        and element.bits <= 8
        and fmt.zero_point is None
        and fmt.second_level is None
        and len(fmt.block_scales) == 1
        and fmt.block_scales[0].rule != "inverse"
    )


def products_fit(weight: Format, activations: Format, count: int) -> bool:
    """
    Whether the sum of `count` products of their integers always fits 32 bits.

    >>> from qcc.dialects.formats import format
    >>> [products_fit(format("int8"), format("int8"), count) for count in (133144, 133145)]
    [True, False]
    """
    return _largest(weight) * _largest(activations) * count < 1 << 31


def _largest(fmt: Format) -> int:
    element = fmt.element
    assert isinstance(element, Integer)
    return max(abs(element.low), abs(element.high))

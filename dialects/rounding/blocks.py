"""What quantization does to an element whose block has its scales: to a value, or to a code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..formats import Format
from ..formats.definition import Minifloat, Nested
from .elements import (
    encode_linear,
    encode_signed,
    positive_zero,
    round_linear,
    round_signed,
)
from .scales import Scaling
from .values import Val, absolute, select


def rounded(fmt: Format, x: Val, scaling: Scaling) -> Val:
    """decode(encode(x)) for finite x; `scaling` is a block's, widened to vectors."""
    scaled = _scaled(fmt, x, scaling)
    if isinstance(fmt.element, Minifloat | Nested):
        value = round_signed(fmt.element, x, scaled)
    else:
        value = round_linear(fmt.element, scaled, scaling.zero_point)
    restored = _by_sign(x, value, [factor.restored for factor in scaling.factors])
    # The reference adds the two signs' values, one of which is +0.
    return positive_zero(restored) if fmt.splits_signs else restored


def encoded(fmt: Format, x: Val, scaling: Scaling) -> Val:
    """The codes (i32) of x; `scaling` is a block's, widened to vectors."""
    scaled = _scaled(fmt, x, scaling)
    if isinstance(fmt.element, Minifloat):
        return encode_signed(fmt.element, x, scaled)
    return encode_linear(fmt.element, scaled, scaling.zero_point)


def _scaled(fmt: Format, x: Val, scaling: Scaling) -> Val:
    """x over its scale; the magnitude alone for elements whose sign is apart."""
    value = absolute(x) if isinstance(fmt.element, Minifloat | Nested) else x
    return _by_sign(x, value, [factor.scaled for factor in scaling.factors])


def _by_sign(x: Val, value: Val, change: Sequence[Callable[[Val], Val]]) -> Val:
    """`value` as it is, changed, or changed in one way where x > 0 and in another elsewhere."""
    if not change:
        return value
    if len(change) == 1:
        return change[0](value)
    above, below = (one(value) for one in change)
    return select(x.compare("gt", 0.0), above, below)

"""
Rows of x for weights that are decoded to a power of two below their values.

Minifloats become fp32 by moving bits; what their exponents lack then is one factor for all, far
below the range of fp32 at the end where small products vanish. Here it is x that is multiplied, so
that the row's largest value is about 2**LARGEST, and each block's sum is brought back. Powers of
two round nothing, but for values 2**-150 below the row's largest one.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...dialects.formats.panels import PANEL_ROWS
from ...dialects.rounding.elements import BIAS, EXPONENT_BITS, MANTISSA, bits_of, float_of
from .emit import Ptr, Val, broadcast, constant, maximum, minimum
from .round_rows import extent_of

LARGEST = 64
# Neither the factor of a row nor its inverse times the lowering may leave the range of fp32.
MOST = 120


@dataclass(frozen=True, slots=True)
class LiftedRow:
    """The row at `x`, times `factor` if there is one; sums of products are multiplied by `undo`."""

    x: Ptr
    factor: Val | None = None
    undo: Val | None = None

    def at(self, k: Val | int) -> LiftedRow:
        return LiftedRow(self.x.at(k), self.factor, self.undo)

    def lane(self, k: int) -> Val:
        """Its value at `k` in each lane."""
        value = broadcast(self.x.at(k).load(), PANEL_ROWS)
        return value if self.factor is None else value * self.factor

    def raised(self, total: Val) -> Val:
        """A sum of products, as large as it is."""
        return total if self.undo is None else total * self.undo


def row_for(lowering: int, x: Ptr, k: int) -> LiftedRow:
    """The row of `k` values at `x`, to be multiplied by weights divided by 2**`lowering`."""
    if lowering == 0:
        return LiftedRow(x)
    # Powers as fields of the exponent; those of infinities and NaN do as well as any other.
    found = bits_of(extent_of(x, k, magnitudes_only=True).high) & EXPONENT_BITS
    lowest, highest = LARGEST + BIAS - MOST, LARGEST + 2 * BIAS - lowering
    found = minimum(maximum(found, constant(lowest << MANTISSA, found.type)), highest << MANTISSA)
    one = constant(BIAS << MANTISSA, found.type)
    factor = (one + (LARGEST << MANTISSA)) - (found - one)
    undo = one - (factor - ((BIAS + lowering) << MANTISSA))
    return LiftedRow(x, *(broadcast(float_of(bits), PANEL_ROWS) for bits in (factor, undo)))

"""
Elements of weights as integers in bytes.

An element qualifies if all values of its table are multiples of one step. Made unsigned by an
offset, four codes of a row fill a lane and meet four signed bytes of x at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...dialects.formats import Format
from ...dialects.formats.definition import Nested
from ...dialects.formats.panels import code_bits, code_planes, panel_unit
from .closed_form import Affine, closed_form

LARGEST_BYTE, LARGEST_NIBBLE = 255, 15
TABLE_BITS = 6
# Relative error of an entry that is a multiple up to rounding, as SAWB's are: in units of 2^-24,
# and the least k whose sums err by more than that anyway.
ROUNDED = 16
ROUNDED_FROM = 32


@dataclass(frozen=True, slots=True)
class IntegerElements:
    """
    Elements as `step` times integers: code → byte - offset for each table.

    Without tables the bytes are code ^ flip. With two tables the second is subtracted: it holds
    the magnitudes below zero. `ordinary` marks the codes from which a zero point is taken, where
    those are some only; then it is taken from the bytes, for which the offset leaves room.
    """

    bits: int
    step: float
    offset: int
    flip: int = 0
    tables: tuple[tuple[int, ...], ...] = ()
    ordinary: tuple[int, ...] | None = None

    @property
    def largest(self) -> int:
        """The largest byte."""
        return max((max(table) for table in self.tables), default=(1 << self.bits) - 1)

    @property
    def nibbles(self) -> tuple[int, ...] | None:
        """
        Both tables in one, whose high halves of bytes are the second; None if they do not fit.

        >>> IntegerElements(2, 1.0, 0, tables=((0, 3, 0, 0), (0, 0, 12, 15))).nibbles
        (0, 3, 192, 240)
        """
        if len(self.tables) != 2 or self.largest > LARGEST_NIBBLE:
            return None
        low, high = self.tables
        return tuple(a | b << 4 for a, b in zip(low, high, strict=True))

    @property
    def marking_bit(self) -> tuple[int, int] | None:
        """
        (a bit of the bytes, whether it is set) that tells ordinary codes from others, if one does.

        >>> IntegerElements(2, 0.5, 2, tables=((0, 1, 2, 4),), ordinary=(1, 0, 1, 1)).marking_bit
        (1, 0)
        """
        assert self.ordinary is not None
        for bit in range(8):
            found = [byte >> bit & 1 for byte in self.tables[0]]
            for state in (0, 1):
                if all(
                    (one == state) == bool(flag)
                    for one, flag in zip(found, self.ordinary, strict=True)
                ):
                    return 1 << bit, state
        return None

    @property
    def operands(self) -> int:
        """Bytes that stand for a code."""
        return max(1, len(self.tables))


def integer_elements(fmt: Format, k: int) -> IntegerElements | None:
    """
    The elements of `fmt` as integers, None where they are none, or lie in no panels.

    In rows of length `k`, which tells how exact the multiples must be.
    """
    unit, plain = panel_unit(fmt), isinstance(fmt.element, Nested) or fmt.bits > 8
    if unit is None or plain or any(p.word_bits < 32 for p in code_planes(code_bits(fmt), unit)):
        return None
    if any(fmt.scale_decoding(scale.role).divide for scale in fmt.block_scales):
        return None
    values = fmt.element_values()
    form = closed_form(values)
    if fmt.bits <= 4 or not isinstance(form, Affine):
        return _from_table(fmt, values, ROUNDED if k >= ROUNDED_FROM else 0)
    if fmt.splits_signs:
        return None
    if fmt.zero_point is not None and (1 / form.step % 1 or not fmt.zero_point_codes().all()):
        return None
    return IntegerElements(fmt.bits, form.step, form.flip, form.flip)


def _from_table(fmt: Format, values: np.ndarray, rounded: int) -> IntegerElements | None:
    found = _multiples(np.asarray(values, np.float32).tobytes(), rounded)
    if found is None or fmt.bits > TABLE_BITS:
        return None
    step, whole = found
    if fmt.zero_point is not None and 1 / step % 1:
        return None
    if fmt.splits_signs:
        above = tuple(max(number, 0) for number in whole)
        below = tuple(max(-number, 0) for number in whole)
        return IntegerElements(fmt.bits, step, 0, tables=(above, below))
    if fmt.zero_point is not None and not fmt.zero_point_codes().all():
        return _with_shifts(fmt, step, whole)
    offset = -min(*whole, 0)
    table = tuple(number + offset for number in whole)
    return IntegerElements(fmt.bits, step, offset, tables=(table,))


def _with_shifts(fmt: Format, step: float, whole: tuple[int, ...]) -> IntegerElements | None:
    """Zero points are values of ordinary codes (scales.py), so a difference is as wide as those."""
    flags = tuple(int(flag) for flag in fmt.zero_point_codes())
    ordinary = [number for number, flag in zip(whole, flags, strict=True) if flag]
    offset = max(*(-number for number in whole), max(ordinary) - min(ordinary))
    table = tuple(number + offset for number in whole)
    if max(table) > LARGEST_BYTE or min(ordinary) < 0:
        return None
    return IntegerElements(fmt.bits, step, offset, tables=(table,), ordinary=flags)


@lru_cache
def _multiples(table: bytes, rounded: int) -> tuple[float, tuple[int, ...]] | None:
    """
    (step, whole numbers): `table` is their products, to `rounded` times 2^-24 of each value.

    >>> _multiples(np.float32([0, 0.5, -1.5, 6]).tobytes(), 0)
    (0.5, (0, 1, -3, 12))
    >>> _multiples(np.float32([-1, -1 / 3, 0.33333337, 1]).tobytes(), 16)[1]
    (-3, -1, 1, 3)
    """
    values = np.frombuffer(table, np.float32).astype(np.float64)
    if not np.isfinite(values).all() or not values.any():
        return None
    top = np.abs(values).max()
    for count in range(1, LARGEST_BYTE + 1):
        step = float(np.float32(top / count))
        if step == 0:
            return None
        whole = np.rint(values / step)
        errors = np.abs(values - whole * step)
        if (errors <= rounded * 2.0**-24 * np.abs(values)).all():
            fits = whole.max() - whole.min() <= LARGEST_BYTE
            return (step, tuple(int(number) for number in whole)) if fits else None
    return None

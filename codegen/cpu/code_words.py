"""Loads of packed codes: eight of a row at a time, and no byte that is not theirs."""

from __future__ import annotations

from ...dialects.bindings import ir, vector
from .emit import (
    LANES,
    Ptr,
    Val,
    broadcast,
    i8,
    i16,
    i32,
    i64,
    lane_constants,
    lanes,
    shuffle,
    widen,
)

WORD_BITS = 32
MOST_SIGNED_BITS = WORD_BITS // LANES  # of codes, of which a word holds eight


def reads_next_group(bits: int) -> bool:
    """
    Whether eight codes of `bits` are read as a word that ends in the row's next group.

    >>> [bits for bits in range(1, 9) if reads_next_group(bits)]
    [2, 3]
    """
    return _alone(bits) < WORD_BITS // 8 <= 2 * _alone(bits)


def _alone(bits: int) -> int:
    """Bytes of eight codes."""
    return bits * LANES // 8


def read_codes(row: Ptr, k: Val, bits: int, ends: bool) -> Val:
    """
    Codes k … k+7 of a packed row, as i32 lanes.

    `ends` says that they are the row's last ones, behind which nothing may be read.
    """
    group = row.at((k >> 3) * bits)
    if bits in (8, 16, 32):
        element = {8: i8(), 16: i16(), 32: i32()}[bits]
        loaded = group.load(lanes(element), align=1)
        return loaded if bits == WORD_BITS else widen(loaded, i32())
    if bits > 4:
        return _wide_codes(group, bits)
    shifts = lane_constants([lane * bits for lane in range(LANES)], i32())
    return (_in_all_lanes(group, bits, ends) >> shifts) & ((1 << bits) - 1)


def read_signed(row: Ptr, k: Val, bits: int, ends: bool) -> Val:
    """`read_codes` of at most 4 bits that are two's complement, by two shifts a vector."""
    word = _in_all_lanes(row.at((k >> 3) * bits), bits, ends)
    above = lane_constants([WORD_BITS - bits - lane * bits for lane in range(LANES)], i32())
    return (word << above).shift_right_signed(WORD_BITS - bits)


def _in_all_lanes(group: Ptr, bits: int, ends: bool) -> Val:
    """The word of eight codes of at most 4 bits."""
    exactly = ends or not reads_next_group(bits)
    return broadcast(first_bytes(group, _alone(bits), i32()) if exactly else _word(group))


def read_bytes(start: Ptr, count: int) -> Val:
    """`count` bytes and no more, as i8 lanes; the other lanes are 0."""
    if count == LANES:
        return start.load(lanes(i8()))
    together = broadcast(first_bytes(start, count, i64()), 1)
    return Val(vector.bitcast(lanes(i8()), together.ssa))


def first_bytes(start: Ptr, count: int, type_: ir.Type) -> Val:
    """`count` bytes from `start` and no more, as an integer of `type_`."""
    exact = ir.IntegerType.get_signless(8 * count)
    loaded = start.load(exact, align=1)
    return loaded if exact == type_ else widen(loaded, type_)


def _wide_codes(group: Ptr, bits: int) -> Val:
    """Eight codes of 5 to 7 bits from the group's first and last words, four codes each."""
    last = bits - 4
    low = broadcast(_word(group), LANES // 2)
    high = broadcast(_word(group.at(last)), LANES // 2)
    shifts = [lane * bits for lane in range(4)]
    low = low >> lane_constants(shifts, i32())
    high = high >> lane_constants([shift + 4 * bits - 8 * last for shift in shifts], i32())
    return shuffle(low, high, range(LANES)) & ((1 << bits) - 1)


def _word(start: Ptr) -> Val:
    return start.load(i32(), align=1)

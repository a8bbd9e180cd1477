"""
Codes to bytes and back.

A row is a little-endian bit stream: code i of width b occupies bits [i*b, (i+1)*b), and rows are
padded to eight codes, so eight codes always take b bytes. Widths 16 and 32 are plain
little-endian words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CODES_PER_PACK = 8


def row_bytes(count: int, bits: int) -> int:
    """
    Bytes of one packed row.

    >>> row_bytes(9, 3)
    6
    """
    return -(-count // CODES_PER_PACK) * bits


def pack_codes(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """
    Pack uint8 [rows, n], n a multiple of eight and C-contiguous, into [rows, n / 8 * bits].

    >>> pack_codes(np.array([[1, 2, 3, 4, 5, 6, 7, 8]], np.uint8), 4).tolist()
    [[33, 67, 101, 135]]
    """
    if bits == 8:
        return codes
    rows, count = codes.shape
    if bits == 4:
        pairs = codes.view(np.uint16)
        return (pairs | (pairs >> 4)).astype(np.uint8)
    lanes = codes.view(np.uint64)
    for width in (8, 16, 32):
        held = bits * width // 8
        even = _fields(2 * width, held)
        odd = even << np.uint64(width)
        lanes = (lanes & even) | ((lanes & odd) >> np.uint64(width - held))
    packed = lanes.view(np.uint8).reshape(rows, count // 8, 8)[:, :, :bits]
    return np.ascontiguousarray(packed).reshape(rows, count // 8 * bits)


def unpack_codes(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Undo `pack_codes`: uint8 [rows, m * bits] to [rows, m * 8]."""
    if bits == 8:
        return packed
    rows, width_bytes = packed.shape
    packs = width_bytes // bits
    words = np.zeros((rows, packs, 8), np.uint8)
    words[:, :, :bits] = packed.reshape(rows, packs, bits)
    lanes = words.view(np.uint64)
    for width in (32, 16, 8):
        held = bits * width // 8
        even = _fields(2 * width, held)
        odd = even << np.uint64(held)
        lanes = (lanes & even) | ((lanes & odd) << np.uint64(width - held))
    return lanes.view(np.uint8).reshape(rows, packs * 8)


def _fields(lane: int, held: int) -> np.uint64:
    """Mask of the low `held` bits of every `lane`-bit lane of a 64-bit word."""
    return np.uint64(sum(((1 << held) - 1) << shift for shift in range(0, 64, lane)))

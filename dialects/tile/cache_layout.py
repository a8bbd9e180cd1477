"""
How a cache of packed keys or values lies in memory, for kernels that multiply it.

    keys     codes  [positions / 16, depth / 64, words]    packets of 16 positions x 64 columns
    values   codes  [positions / 64, depth / 16, words]    packets of 16 columns x 64 positions
    scales, zero points  [positions, groups]               as `Format.encode_rows` gives them

Packets are those of weights (dialects/formats/packets.py), in the order of the decode program;
those of values are turned, since their sums run over positions. Caches hold whole tiles of KEYS
positions, all zeros at first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..formats.decoding import row_codes
from ..formats.layout import Parts
from ..formats.packets import PacketOrder, pack_packets
from .attention_problem import KEYS, Rows


def cache_parts(rows: Rows, order: PacketOrder, parts: Parts) -> Parts:
    """Parts of encoded rows [positions, depth] as a cache holds them, padded to whole tiles."""
    fmt = rows.format
    assert fmt is not None
    codes = row_codes(fmt, parts, rows.depth)
    missing = -len(codes) % KEYS
    codes = np.pad(codes, [(0, missing), (0, 0)])
    stored: Parts = {
        role: np.pad(part, [(0, missing), (0, 0)])
        for role, part in parts.items()
        if role != fmt.code_part
    }
    return {"codes": packed_codes(rows, order, codes, fmt.bits)} | stored


def packed_codes(
    rows: Rows, order: PacketOrder, codes: NDArray[np.unsignedinteger], bits: int
) -> NDArray[np.uint32]:
    """Packets of codes [positions, depth], a row of them for 16 or KEYS positions."""
    if rows.name == "key":
        packets = pack_packets(order, codes, bits)
        return packets.reshape(len(packets), -1)
    packets = pack_packets(order, np.ascontiguousarray(codes.T), bits).swapaxes(0, 1)
    return np.ascontiguousarray(packets).reshape(len(codes) // KEYS, -1)

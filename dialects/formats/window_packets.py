"""
Layouts of convolution weights [O, C, kh, kw] for matrix units: packets, a tap at a time.

"mma16-taps<g>" is the order `mma16` (packets.py) of rows whose values lie by (kh, kw, C), so that
the values under one tap meet neighbouring channels of an image. "mma16-whole<g>" leaves them by
(C, kh, kw), for formats whose blocks lie along that. `g` counts the groups of the convolution: the
rows of each are padded to whole strips of 16.

>>> window_layout("mma8_pairs-taps2")
('mma8_pairs', True, 2)
"""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from .decoding import row_codes
from .layout import Parts, PartSpecs
from .number_format import Format
from .packets import ORDERS, PACKET_ROWS, from_packets, packet_specs, to_packets
from .panels import packed_rows

Shape = tuple[int, ...]
SPELLING = re.compile(r"(mma\w+)-(taps|whole)(\d+)")


def window_layout(layout: str) -> tuple[str, bool, int] | None:
    """The order of packets, whether values lie by tap, and the groups; None of other names."""
    found = SPELLING.fullmatch(layout)
    if found is None or found[1] not in ORDERS or int(found[3]) < 1:
        return None
    return found[1], found[2] == "taps", int(found[3])


def spelled_layout(order: str, by_tap: bool, groups: int) -> str:
    return f"{order}-{'taps' if by_tap else 'whole'}{groups}"


def window_refusal(fmt: Format, layout: str) -> str | None:
    """Why weights of this format cannot be stored so, or None."""
    known = window_layout(layout)
    assert known is not None
    if fmt.bits > ORDERS[known[0]].widest_plane:
        return f"has no codes of {fmt.bits} bits, as {fmt.spelling} has"
    if known[1] and isinstance(fmt.block_size, int):
        return f"would tear the blocks of {fmt.spelling} apart"
    return None


def window_specs(fmt: Format, layout: str, shape: Shape) -> PartSpecs:
    order, _, groups = _parsed(layout)
    return packet_specs(fmt, ORDERS[order], len(padded_rows(shape[0], groups)), _k(shape))


def to_window_packets(fmt: Format, layout: str, parts: Parts, shape: Shape) -> Parts:
    """The parts of [O, C * kh * kw] that `Format.encode_rows` gives, in packets."""
    order, by_tap, groups = _parsed(layout)
    rows, k = padded_rows(shape[0], groups), _k(shape)
    codes = row_codes(fmt, parts, k)
    if by_tap:
        codes = codes[:, taps_first(shape)]
    wide = {role: part if role in fmt.tensor_roles else _spread(part, rows)
            for role, part in parts.items() if role != fmt.code_part}  # fmt: skip
    wide[fmt.code_part] = packed_rows(fmt, _spread(codes.astype(fmt.code_type), rows))
    return to_packets(fmt, ORDERS[order], wide, k)


def from_window_packets(fmt: Format, layout: str, stored: Parts, shape: Shape) -> Parts:
    """Undo `to_window_packets`: parts as `Format.decode_rows` takes them."""
    order, by_tap, groups = _parsed(layout)
    rows, k = padded_rows(shape[0], groups), _k(shape)
    parts = from_packets(fmt, ORDERS[order], stored, len(rows), k)
    held = rows >= 0
    codes = row_codes(fmt, parts, k)[held]
    if by_tap:
        by_channel = np.zeros_like(codes)
        by_channel[:, taps_first(shape)] = codes
        codes = by_channel
    kept = {role: part if role in fmt.tensor_roles else part[held] for role, part in parts.items()}
    return {**kept, fmt.code_part: packed_rows(fmt, codes.astype(fmt.code_type))}


def taps_first(shape: Shape) -> NDArray[np.int64]:
    """
    For each place of a row by (kh, kw, C), its place by (C, kh, kw).

    >>> taps_first((16, 2, 1, 3))
    array([0, 3, 1, 4, 2, 5])
    """
    channels, taps = shape[1], math.prod(shape[2:])
    return np.arange(channels * taps).reshape(channels, taps).T.ravel()


def padded_rows(outputs: int, groups: int) -> NDArray[np.int64]:
    """For each stored row its row, -1 where one is padding of a group to whole strips."""
    of_group = outputs // groups
    stored = -(-of_group // PACKET_ROWS) * PACKET_ROWS
    rows = np.full((groups, stored), -1)
    rows[:, :of_group] = np.arange(outputs).reshape(groups, of_group)
    return rows.ravel()


def _spread(part: NDArray, rows: NDArray[np.int64]) -> NDArray:
    spread = np.zeros((len(rows), *part.shape[1:]), part.dtype)
    spread[rows >= 0] = part[rows[rows >= 0]]
    return spread


def _parsed(layout: str) -> tuple[str, bool, int]:
    known = window_layout(layout)
    assert known is not None
    return known


def _k(shape: Shape) -> int:
    return math.prod(shape[1:])

"""
The layout "panel16-taps": weights of a convolution [O, C, kh, kw] in panels, a tap at a time.

The values of a row are put in the order (kh, kw, C), with the channels of a tap padded with zeros
to whole units, and then lie in panels (panels.py). So four neighbouring codes are four channels
under one tap: what a byte dot product takes of an image whose channels lie by fours. Each row
has one scale, which knows no order.

>>> tap_order((16, 3, 1, 2), 4)
array([ 0,  2,  4, -1,  1,  3,  5, -1])
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .decoding import row_codes
from .layout import Parts, PartSpecs
from .number_format import Format
from .panels import from_panels, packed_rows, panel_specs, panel_unit, to_panels
from .scaled_integers import holds_integers

TAP_LAYOUT = "panel16-taps"

Shape = tuple[int, ...]


def has_tap_panels(fmt: Format) -> bool:
    """Whether the layout knows weights in `fmt`: integers times one scale a row, or one in all."""
    return holds_integers(fmt) and not isinstance(fmt.block_size, int)


def tap_unit(fmt: Format) -> int:
    """Channels of a tap are padded to a multiple of this."""
    unit = panel_unit(fmt)
    assert unit is not None
    return unit


def tap_order(shape: Shape, unit: int) -> NDArray[np.int64]:
    """For each place of a row in the new order, its place in (C, kh, kw); -1 is padding."""
    channels, taps = shape[1], math.prod(shape[2:])
    order = np.full((taps, -(-channels // unit) * unit), -1)
    order[:, :channels] = np.arange(channels * taps).reshape(channels, taps).T
    return order.ravel()


def tap_panel_specs(fmt: Format, shape: Shape) -> PartSpecs:
    """Shape and dtype of each stored part of weights of `shape`."""
    return panel_specs(fmt, shape[0], len(tap_order(shape, tap_unit(fmt))))


def to_tap_panels(fmt: Format, parts: Parts, shape: Shape) -> Parts:
    """The parts of [O, C * kh * kw] that `Format.encode_rows` gives, in panels by tap."""
    order = tap_order(shape, tap_unit(fmt))
    codes = row_codes(fmt, parts, math.prod(shape[1:]))
    by_tap = np.where(order >= 0, codes[:, order], 0).astype(codes.dtype)
    return to_panels(fmt, {**parts, "codes": packed_rows(fmt, by_tap)}, len(order))


def from_tap_panels(fmt: Format, panels: Parts, shape: Shape) -> Parts:
    """Undo `to_tap_panels`: parts as `Format.decode_rows` takes them."""
    order = tap_order(shape, tap_unit(fmt))
    parts = from_panels(fmt, panels, shape[0], len(order))
    by_tap = row_codes(fmt, parts, len(order))
    codes = np.zeros((shape[0], math.prod(shape[1:])), by_tap.dtype)
    codes[:, order[order >= 0]] = by_tap[:, order >= 0]
    return {**parts, "codes": packed_rows(fmt, codes)}

"""Rows of floats, read and written sixteen columns at a time: what panels are multiplied into."""

from __future__ import annotations

from ...dialects.formats.panels import PANEL_ROWS
from .emit import Ptr, Val, constant, f32, lane_mask, size
from .panel_codes import wide


class Columns:
    """Rows of `count` floats, sixteen columns at a time; zeros if `present` is false."""

    def __init__(self, address: Ptr, count: int, present: bool = True) -> None:
        self._address, self._count, self._present = address, count, present

    def sixteen(self, m: Val, panel: Val) -> Val:
        if not self._present:
            return constant(0, wide(f32()))
        source = self._at(m, panel)
        return source.load_while(self._inside(panel)) if self._ragged else source.load(wide(f32()))

    def store(self, m: Val, panel: Val, value: Val) -> None:
        target = self._at(m, panel)
        if self._ragged:
            target.store_while(self._inside(panel), value)
        else:
            target.store(value)

    def _at(self, m: Val, panel: Val) -> Ptr:
        return self._address.at(m * self._count + panel * PANEL_ROWS)

    @property
    def _ragged(self) -> bool:
        return self._count % PANEL_ROWS != 0

    def _inside(self, panel: Val) -> Val:
        return lane_mask(size(self._count) - panel * PANEL_ROWS, PANEL_ROWS)

"""Bar charts as inline SVG, coloured by the CSS classes of the page around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_HEIGHT = 180
_LEFT, _TOP, _BOTTOM = 56, 8, 18


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `value` None leaves a gap, `title` is what a pointer resting on it shows."""

    value: float | None
    title: str
    kind: str


def bar_chart(groups: Sequence[Sequence[Bar]], unit: str, label: str) -> str:
    """Groups of bars from left to right; each group stands at one place of the axis."""
    values = [bar.value for group in groups for bar in group if bar.value is not None]
    finite = [value for value in values if math.isfinite(value)]
    top = nice_ceiling(max([*finite, 0.0]))
    bottom = -nice_ceiling(-min([*finite, 0.0]))
    if top == bottom:
        top = 1.0
    pitch = min(40.0, max(6.0, 880 / max(len(groups), 1)))
    width = _LEFT + pitch * len(groups) + 8
    axis = _Axis(bottom, top)
    body = [_grid(axis, width, unit)]
    for index, group in enumerate(groups):
        thickness = pitch * 0.8 / max(len(group), 1)
        for place, bar in enumerate(group):
            if bar.value is not None:
                x = _LEFT + pitch * index + pitch * 0.1 + thickness * place
                body.append(_rectangle(axis, bar, x, thickness))
    return (
        f'<svg role="img" aria-label="{escape(label)}" width="{width:.0f}" '
        f'height="{_HEIGHT}" viewBox="0 0 {width:.0f} {_HEIGHT}">{"".join(body)}</svg>'
    )


def nice_ceiling(value: float) -> float:
    """
    The next value of 1, 2, 2.5, 5 times a power of ten; zero for nothing.

    >>> nice_ceiling(37.0), nice_ceiling(0.0021), nice_ceiling(0)
    (50.0, 0.0025, 0.0)
    """
    if value <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10, 20) if step * power >= value)


@dataclass(frozen=True, slots=True)
class _Axis:
    bottom: float
    top: float

    def y(self, value: float) -> float:
        """Pixel row of a value; what lies outside, infinities included, is put on the edge."""
        inside = min(max(value, self.bottom), self.top)
        share = (inside - self.bottom) / (self.top - self.bottom)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _grid(axis: _Axis, width: float, unit: str) -> str:
    lines = []
    for step in range(5):
        value = axis.bottom + (axis.top - axis.bottom) * step / 4
        y = axis.y(value)
        lines.append(
            f'<line class="grid" x1="{_LEFT}" x2="{width:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}">{value:.4g}</text>'
        )
    return "".join(lines) + f'<text class="tick" x="{_LEFT - 6}" y="{_HEIGHT - 2}">{unit}</text>'


def _rectangle(axis: _Axis, bar: Bar, x: float, thickness: float) -> str:
    value = bar.value or 0.0
    low, high = sorted((axis.y(0.0), axis.y(value)))
    # A bar of no height could neither be seen nor pointed at.
    height = max(high - low, 1.0)
    return (
        f'<rect class="{escape(bar.kind)}" x="{x:.1f}" y="{low:.1f}" width="{thickness:.1f}" '
        f'height="{height:.1f}"><title>{escape(bar.title)}</title></rect>'
    )

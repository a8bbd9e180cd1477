"""Bar charts as inline SVG, coloured by the CSS classes of the page around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ..console import bytes_text

_HEIGHT = 180
_LEFT, _TOP, _BOTTOM = 64, 8, 8


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `value` None leaves a gap, `title` is what a pointer resting on it shows."""

    value: float | None
    title: str
    kind: str


def bar_chart(groups: Sequence[Sequence[Bar]], axis: Axis, label: str) -> str:
    """Groups of bars from left to right; each group stands at one place of the axis."""
    pitch = min(40.0, max(4.0, 1060 / max(len(groups), 1)))
    width = _LEFT + pitch * len(groups) + 8
    body = [_grid(axis, width)]
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
class Axis:
    """Places values between `bottom` and `top`; `ticks` are (value, label)."""

    bottom: float
    top: float
    ticks: tuple[tuple[float, str], ...]
    place: Callable[[float], float] = float

    def y(self, value: float) -> float:
        """Pixel row of a value; what lies outside, infinities included, is put on the edge."""
        inside = self.place(min(max(value, self.bottom), self.top))
        bottom, top = self.place(self.bottom), self.place(self.top)
        share = (inside - bottom) / (top - bottom)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def linear_axis(values: Iterable[float | None], unit: str) -> Axis:
    """From zero, or the lowest value below it, to a round number above all."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    top = nice_ceiling(max([*finite, 0.0]))
    bottom = -nice_ceiling(-min([*finite, 0.0]))
    if top == bottom:
        top = 1.0
    marks = [bottom + (top - bottom) * step / 4 for step in range(5)]
    return Axis(bottom, top, tuple((mark, f"{mark:.4g} {unit}") for mark in marks))


def bytes_axis(values: Iterable[int]) -> Axis:
    """Logarithmic, as layers differ by orders of magnitude; zero bytes lie on the bottom."""
    sizes = [value for value in values if value > 0] or [1]
    low = int(math.log2(min(sizes))) // 2 * 2
    high = max(low + 2, math.ceil(math.log2(max(sizes))))
    step = max(1, (high - low) // 5)
    marks = [1 << power for power in range(low, high + 1, step)]
    ticks = tuple((float(mark), bytes_text(mark).replace(".0", "")) for mark in marks)
    return Axis(float(1 << low), float(1 << high), ticks, math.log2)


def _grid(axis: Axis, width: float) -> str:
    return "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{width:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}">{escape(label)}</text>'
        for y, label in ((axis.y(value), label) for value, label in axis.ticks)
    )


def _rectangle(axis: Axis, bar: Bar, x: float, thickness: float) -> str:
    value = bar.value or 0.0
    low, high = sorted((axis.y(0.0), axis.y(value)))
    # A bar of no height could neither be seen nor pointed at.
    height = max(high - low, 1.0)
    return (
        f'<rect class="{escape(bar.kind)}" x="{x:.1f}" y="{low:.1f}" width="{thickness:.1f}" '
        f'height="{height:.1f}"><title>{escape(bar.title)}</title></rect>'
    )

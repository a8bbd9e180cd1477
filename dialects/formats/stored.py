"""
The layouts that a parameter's parts may be stored in, by the name its `layout` attribute has.

The one place that knows them all: whoever stores, reads or checks a parameter asks here. Shapes
are those of the parameter, [rows, ...]; a row is all axes after the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .definition import Nested
from .layout import Parts, PartSpecs
from .number_format import Format
from .packets import (
    ORDERS,
    PLANE_ORDERS,
    UPPER,
    PacketOrder,
    from_packets,
    packet_specs,
    to_packets,
)
from .panels import LAYOUT, from_panels, panel_specs, panel_unit, to_panels
from .tap_panels import (
    TAP_LAYOUT,
    Shape,
    from_tap_panels,
    has_tap_panels,
    tap_panel_specs,
    to_tap_panels,
)
from .window_packets import (
    from_window_packets,
    to_window_packets,
    window_layout,
    window_refusal,
    window_specs,
)


@dataclass(frozen=True, slots=True)
class StoredLayout:
    """One layout: of which tensors, what it holds, and the way there and back."""

    rank: int
    refusal: Callable[[Format], str | None]
    specs: Callable[[Format, Shape], PartSpecs]
    store: Callable[[Format, Parts, Shape], Parts]
    restore: Callable[[Format, Parts, Shape], Parts]


def layout_refusal(fmt: Format, layout: str, shape: Shape) -> str | None:
    """Why parts of a tensor of this format and shape cannot be stored so, or None."""
    known = _layout(layout)
    if known is None:
        return f"there is no layout {layout!r}, only {', '.join(LAYOUTS)}"
    if len(shape) != known.rank:
        return f"{layout!r} is a layout of tensors of rank {known.rank}, not {len(shape)}"
    reason = known.refusal(fmt)
    return reason and f"{layout!r} {reason}"


def stored_specs(fmt: Format, layout: str | None, shape: Shape) -> PartSpecs:
    """Shape and dtype of each part; without a layout, rows one after another."""
    if layout is None:
        return fmt.part_specs(shape[0], math.prod(shape[1:]))
    return _known(layout).specs(fmt, shape)


def to_layout(fmt: Format, layout: str | None, parts: Parts, shape: Shape) -> Parts:
    """The parts that `Format.encode_rows` gives, as they are stored."""
    return parts if layout is None else _known(layout).store(fmt, parts, shape)


def from_layout(fmt: Format, layout: str | None, stored: Parts, shape: Shape) -> Parts:
    """Undo `to_layout`: parts as `Format.decode_rows` takes them."""
    return stored if layout is None else _known(layout).restore(fmt, stored, shape)


def _layout(layout: str) -> StoredLayout | None:
    """A layout by its name, those included that count the groups of a convolution."""
    return LAYOUTS.get(layout) or (_window_packets(layout) if window_layout(layout) else None)


def _known(layout: str) -> StoredLayout:
    known = _layout(layout)
    if known is None:
        raise KeyError(layout)
    return known


def _panels() -> StoredLayout:
    def refusal(fmt: Format) -> str | None:
        return (
            None if panel_unit(fmt) else f"has no units that blocks of {fmt.spelling} divide into"
        )

    return StoredLayout(
        rank=2,
        refusal=refusal,
        specs=lambda fmt, shape: panel_specs(fmt, *shape),
        store=lambda fmt, parts, shape: to_panels(fmt, parts, shape[1]),
        restore=lambda fmt, stored, shape: from_panels(fmt, stored, *shape),
    )


def _tap_panels() -> StoredLayout:
    def refusal(fmt: Format) -> str | None:
        known = has_tap_panels(fmt)
        return None if known else f"is for integers times a scale a row, not for {fmt.spelling}"

    return StoredLayout(4, refusal, tap_panel_specs, to_tap_panels, from_tap_panels)


def _packets(order: PacketOrder) -> StoredLayout:
    def refusal(fmt: Format) -> str | None:
        bits = 8 if isinstance(fmt.element, Nested) and order is PLANE_ORDERS[UPPER] else fmt.bits
        known = bits <= order.widest_plane
        return None if known else f"has no codes of {fmt.bits} bits, as {fmt.spelling} has"

    return StoredLayout(
        rank=2,
        refusal=refusal,
        specs=lambda fmt, shape: packet_specs(fmt, order, *shape),
        store=lambda fmt, parts, shape: to_packets(fmt, order, parts, shape[1]),
        restore=lambda fmt, stored, shape: from_packets(fmt, order, stored, *shape),
    )


def _window_packets(layout: str) -> StoredLayout:
    return StoredLayout(
        rank=4,
        refusal=lambda fmt: window_refusal(fmt, layout),
        specs=lambda fmt, shape: window_specs(fmt, layout, shape),
        store=lambda fmt, parts, shape: to_window_packets(fmt, layout, parts, shape),
        restore=lambda fmt, stored, shape: from_window_packets(fmt, layout, stored, shape),
    )


LAYOUTS = {
    LAYOUT: _panels(),
    TAP_LAYOUT: _tap_panels(),
    **{name: _packets(order) for name, order in ORDERS.items()},
}

"""Panels of weights as fp32 in memory, a part of k at a time, for tiles of many rows."""

from __future__ import annotations

from collections.abc import Callable

from ...dialects.formats.panels import PANEL_ROWS
from .emit import Ptr, Val, repeat, size
from .panel_codes import NEAR, Ahead
from .panel_reader import BlockScales, PanelReader

STRIDE = 32
UNROLLED = 96


def written_out(length: int, meetings: int = 1) -> bool:
    """
    Whether code for `length` k, each of which meets so many rows or panels, stands one after the
    other; else it is a loop over `STRIDE`, for long code takes long to build.
    """
    return length <= STRIDE or length * meetings <= UNROLLED


def each_element(
    weight: PanelReader,
    panel: Val,
    span: tuple[Val, int],
    scales: BlockScales,
    use: Callable[[int, list[Val]], None],
    ahead: Ahead | None = NEAR,
) -> None:
    """`use(position, terms)` for `span` = (start, length) of k, from the beginning of a unit."""
    start, length = span
    unit = start // weight.unit
    for first in range(0, length, weight.unit):
        codes = weight.codes(panel, unit, first // weight.unit, ahead)
        for position in range(min(weight.unit, length - first)):
            use(first + position, weight.terms(codes, position, scales))


def decode_panel(weight: PanelReader, panel: Val, span: tuple[Val, int], target: Ptr) -> None:
    """
    Write `span` = (first, length) of k, sixteen rows each, to `target` [length][16].

    `first` is the beginning of a block, or of a unit of a row's only block.
    """
    first, length = span
    block = weight.block if weight.blocks > 1 else length

    def of_block(start: Val, count: int) -> None:
        k = start + first
        scales = weight.scales(panel, k // block if weight.blocks > 1 else size(0))

        def add(at: Val | int, many: int) -> None:
            out = target.at((start + at) * PANEL_ROWS)

            def keep(position: int, terms: list[Val]) -> None:
                out.at(position * PANEL_ROWS).store(weight.decoded(terms, scales))

            each_element(weight, panel, (k + at, many), scales, keep)

        done = 0
        if count > STRIDE:
            done = count // STRIDE * STRIDE

            @repeat(0, done, STRIDE)
            def _(at: Val) -> None:
                add(at, STRIDE)

        if count > done:
            add(done, count - done)

    whole = length // block

    @repeat(0, whole * block, block)
    def _(start: Val) -> None:
        of_block(start, block)

    if length > whole * block:
        of_block(size(whole * block), length - whole * block)

"""
Panels that one row of x meets at a time.

Where only reading takes time, several: each is a stream of its own to the processor, which reads
them ahead by itself, faster than where software does: 27 GB/s in place of 22 on a Zen 4 thread.
Where computing takes as long, one panel that is fetched far ahead: nothing waits for its lines.
"""

from __future__ import annotations

from collections.abc import Callable

from .emit import Val, minimum, repeat
from .library import KernelLibrary
from .panel_reader import PanelReader

FEW_PANELS = 4
"""Of a unit of work with few rows of x; a multiple of all numbers of streams."""
LOOKED_UP = 2
"""Panels whose products are looked up in the same tables."""


def streams(library: KernelLibrary, weight: PanelReader, only_reads: bool) -> int:
    """
    How many panels of `weight` are read at a time, a power of two.

    One where registers are few, without AVX-512.
    """
    if not only_reads or "avx512f" not in library.features:
        return 1
    return 1 << min(FEW_PANELS, max(1, weight.panels)).bit_length() - 1


def each_group(
    panels: int, span: tuple[Val, Val], count: int, visit: Callable[[list[Val]], None]
) -> None:
    """
    `visit` the panels of a launcher's share of units of few rows, `count` at a time.

    Missing ones are the last one again, whose results are stored to the same place.
    """
    begin, end = span

    @repeat(begin * FEW_PANELS, minimum(end * FEW_PANELS, panels), count)
    def _(first: Val) -> None:
        visit([minimum(first + i, panels - 1) for i in range(count)])

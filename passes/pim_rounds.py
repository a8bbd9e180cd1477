"""
The rounds of a kernel: parts of K whose sums stay apart, as each has scales of its own.

    for each part: all tokens, with its weights, inputs and results
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..dialects.bindings import ir
from ..dialects.pim.schedule import Share
from .pim_writer import Words, Writer


@dataclass(frozen=True)
class Place:
    """The first tile (or token) of inputs and results of a round, its first chunk of weights."""

    tile: ir.Value | int = 0
    chunk: ir.Value | int = 0


def each_round(out: Writer, share: Share, tiles: int, write: Callable[[Place], None]) -> None:
    """What `write` writes for each round of a share, which has so many tiles; a loop for many."""
    if share.rounds == 1:
        write(Place())
        return

    def body(part: ir.Value, _: Words) -> None:
        write(Place(out.times(part, tiles), out.times(part, share.chunks)))

    note = f"parts of {share.k_each} inputs with a scale each"
    out.loop("part", 0, share.rounds, body, note=note)

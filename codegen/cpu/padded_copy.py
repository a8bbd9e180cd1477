"""
Images with zero borders, for convolutions.

    x f32 [planes, H, W]   =>   copy f32 [planes, H + 2p, phases, width]

Phase f of a row holds its padded columns f, f + phases, f + 2 phases, …: what neighbouring outputs
of a convolution with that stride read under a tap lies side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .emit import Ptr, Val, branch, f32, repeat, scalar, splat
from .library import Arguments, KernelLibrary
from .round_rows import load, store, walk


@dataclass(frozen=True, slots=True)
class PaddedCopy:
    """`padding` is (rows, columns)."""

    padding: tuple[int, int]
    phases: int

    def rows(self, rows: Val) -> Val:
        return rows + 2 * self.padding[0]


def padding_launcher(library: KernelLibrary, copy: PaddedCopy) -> str:
    """
    Arguments: x, copy, rows, columns, the width of a phase: at least its padded columns.

    total is the number of planes times their padded rows.
    """
    top, left = copy.padding

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        x, target = (arguments.address(index, f32()) for index in range(2))
        rows, columns, width = (arguments.integer(index) for index in range(2, 5))
        padded_rows = copy.rows(rows)

        @repeat(begin, end)
        def _(line: Val) -> None:
            plane, row = line // padded_rows, line % padded_rows
            source = x.at((plane * rows + row - top) * columns)
            inside = row.compare("ge", top) & row.compare("lt", rows + top)
            for phase in range(copy.phases):
                part = target.at((line * copy.phases + phase) * width)
                branch(
                    inside,
                    lambda phase=phase, part=part: fill(source, columns, phase, part, width),
                    lambda part=part: _clear(part, width),
                )

    def fill(source: Ptr, columns: Val, phase: int, part: Ptr, width: Val) -> None:
        """One phase of a row that the image has."""
        if copy.phases == 1:
            for column in range(left):
                part.at(column).store(scalar(0.0))
            _copy(source, columns, part.at(left))
            _clear(part.at(columns + left), width - columns - left)
            return
        _clear(part, width)
        first = -(-max(0, left - phase) // copy.phases)
        last = (columns + (left - phase + copy.phases - 1)) // copy.phases
        repeat(first, last)(
            lambda place: part.at(place).store(
                source.at(place * copy.phases + (phase - left)).load()
            )
        )

    return library.launcher(f"pad {copy}", 5, emit)


def _clear(target: Ptr, length: Val) -> None:
    def clear(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
        store(target.at(k), mask, splat(0.0))
        return carried

    walk(length, clear)


def _copy(source: Ptr, length: Val, target: Ptr) -> None:
    def copy(k: Val, mask: Val | None, carried: Sequence[Val]) -> Sequence[Val]:
        store(target.at(k), mask, load(source.at(k), mask))
        return carried

    walk(length, copy)

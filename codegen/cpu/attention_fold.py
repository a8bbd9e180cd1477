"""The kernel that folds the segments of few rows into their results, in the order of the keys."""

from __future__ import annotations

from .attention_segment import (
    LOWEST,
    Attention,
    Factors,
    final_factor,
    fold_row,
)
from .emit import Ptr, Val, broadcast, f32, read, repeat, scalar, splat, vectors, write
from .library import Arguments, KernelLibrary, scratch
from .source_rows import padded

FOLD_ARGUMENTS = ("result", "partials", "group", "segments")


def fold_launcher(library: KernelLibrary, attention: Attention) -> str:
    """Arguments as named in FOLD_ARGUMENTS; total counts the result rows."""
    depth, record = attention.values.k, attention.record

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        result, partials = arguments.address(0, f32()), arguments.address(1, f32())
        group, segments = arguments.integer(2), arguments.integer(3)
        state = scratch(2)

        @repeat(begin, end)
        def _(row: Val) -> None:
            plane, place = row // group, row % group
            first = partials.at((plane * segments * group + place) * record)
            _fold(depth, result.at(row * depth), (first, group * record, segments), state)

    return library.launcher(f"fold {depth}", len(FOLD_ARGUMENTS), emit)


def _fold(depth: int, out: Ptr, records: tuple[Ptr, Val, Val], state: Ptr) -> None:
    """`records` are the row's first, the step to the next, and their number."""
    first, step, count = records
    top, total = state.at(0), state.at(1)
    top.store(scalar(LOWEST))
    total.store(scalar(0.0))
    for k, lanes in vectors(depth):
        write(out, k, lanes, splat(0.0))

    @repeat(0, count)
    def _(segment: Val) -> None:
        record = first.at(segment * step)
        end = record.at(padded(depth))
        factors = fold_row(top, total, end.load(), end.at(1).load())
        fold_values(depth, out, record, factors)

    factor = broadcast(final_factor(total.load()))
    for k, lanes in vectors(depth):
        write(out, k, lanes, read(out, k, lanes) * factor)


def fold_values(depth: int, out: Ptr, part: Ptr, factors: Factors) -> None:
    for k, lanes in vectors(depth):
        write(out, k, lanes, factors.folded(read(out, k, lanes), read(part, k, lanes)))

"""Kernels that work row by row: layer norm, RMS norm and the embedding lookup."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .emit import (
    LANES,
    Ptr,
    Val,
    broadcast,
    f32,
    i64,
    lane_constants,
    lane_sum,
    read,
    repeat,
    scalar,
    select,
    size,
    splat,
    square_root,
    write,
)
from .library import Arguments, KernelLibrary
from .source_rows import Source, walk_rows


@dataclass(frozen=True, slots=True)
class Norm:
    """x → (x - mean) / sqrt(var + epsilon) * weight + bias, or RMS norm when not `centred`."""

    length: int
    epsilon: float
    centred: bool
    has_weight: bool
    has_bias: bool

    @property
    def key(self) -> str:
        return (
            f"norm {self.length} {self.epsilon!r} centred={self.centred} "
            f"weight={self.has_weight} bias={self.has_bias}"
        )


def norm_launcher(library: KernelLibrary, norm: Norm) -> str:
    """Arguments: x, weight, bias, y; total is the number of rows."""

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        x, weight, bias, y = (arguments.address(index, f32()) for index in range(4))

        @repeat(begin, end)
        def _(row: Val) -> None:
            _norm_row(norm, x.at(row * norm.length), weight, bias, y.at(row * norm.length))

    return library.launcher(norm.key, 4, emit)


def _norm_row(norm: Norm, x: Ptr, weight: Ptr, bias: Ptr, y: Ptr) -> None:
    length = float(norm.length)
    mean = splat(0.0)
    if norm.centred:
        mean = broadcast(lane_sum(_sum_row(norm.length, lambda k, n: read_at(x, k, n))) / length)

    def squared(k: Val, count: int) -> Val:
        centred = read_at(x, k, count) - mean
        if count < LANES:
            inside = lane_constants([float(i < count) for i in range(LANES)], f32())
            centred = centred * inside
        return centred * centred

    variance = lane_sum(_sum_row(norm.length, squared)) / length
    factor = broadcast(scalar(1.0) / square_root(variance + norm.epsilon))

    def finish(k: Val, count: int) -> None:
        value = (read_at(x, k, count) - mean) * factor
        if norm.has_weight:
            value = value * read_at(weight, k, count)
        if norm.has_bias:
            value = value + read_at(bias, k, count)
        write(y.at(k), 0, count, value)

    _each_vector(norm.length, finish)


def read_at(row: Ptr, k: Val, count: int) -> Val:
    return read(row.at(k), 0, count)


def _each_vector(length: int, visit: Callable[[Val, int], None]) -> None:
    whole = length // LANES * LANES

    @repeat(0, whole, LANES)
    def _(k: Val) -> None:
        visit(k, LANES)

    if length > whole:
        visit(size(whole), length - whole)


def _sum_row(length: int, term: Callable[[Val, int], Val]) -> Val:
    whole = length // LANES * LANES

    @repeat(0, whole, LANES, carry=(splat(0.0),))
    def totals(k: Val, total: Val) -> Val:
        return total + term(k, LANES)

    if length == whole:
        return totals[0]
    return totals[0] + term(size(whole), length - whole)


def embedding_launcher(library: KernelLibrary, table: Source) -> str:
    """Arguments: indices (i64), y, N, then the table's parts; total is the number of indices."""

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        indices, y = arguments.address(0, i64()), arguments.address(1, f32())
        rows = arguments.integer(2)
        table.bind(arguments, 3)

        @repeat(begin, end)
        def _(position: Val) -> None:
            row, one = looked_up(indices.at(position).load(), rows)
            target = y.at(position * table.k)

            def keep(k: Val, ws: list[Val], carried: Sequence[Val], count: int) -> Sequence[Val]:
                write(target.at(k), 0, count, ws[0] * broadcast(one))
                return carried

            walk_rows(table, [row], keep, ())

    return library.launcher(f"embedding {table.k} {table.key}", 3 + table.part_count, emit)


def looked_up(index: Val, rows: Val) -> tuple[Val, Val]:
    """A row that exists, and what to multiply it by: 1, or NaN where `index` names none."""
    known = index.compare("ge", 0) & index.compare("lt", rows)
    return select(known, index, size(0)), select(known, scalar(1.0), scalar(math.nan))

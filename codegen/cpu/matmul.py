"""
The batched matmul kernel: y[b, m, :] = sum over k of lhs[b, m, k] * rhs[b, k, :].

Vectors run along n, where rhs is contiguous, so nothing is transposed: each k costs one load of
rhs for `ROWS` multiply-adds.
"""

from __future__ import annotations

from ...dialects import qcc
from .call_site import CallSite, replace_op
from .emit import (
    LANES,
    Ptr,
    Val,
    broadcast,
    f32,
    floats,
    fma,
    lane_mask,
    minimum,
    repeat,
    splat,
)
from .library import Arguments, KernelLibrary, grain_of

ROWS = 4
COLUMN_VECTORS = 2


def matmul_launcher(library: KernelLibrary) -> str:
    """Arguments: lhs, rhs, y, m, n, k; total is batch * ceil(m / 4)."""

    def emit(arguments: Arguments, begin: Val, end: Val) -> None:
        lhs, rhs, y = (arguments.address(index, f32()) for index in range(3))
        m, n, k = (arguments.integer(index) for index in range(3, 6))
        row_tiles = (m + (ROWS - 1)) // ROWS

        @repeat(begin, end)
        def _(tile: Val) -> None:
            batch, first = tile // row_tiles, (tile % row_tiles) * ROWS
            rows = [minimum(first + i, m - 1) for i in range(ROWS)]
            _row_tile(
                [lhs.at((batch * m + row) * k) for row in rows],
                rhs.at(batch * k * n),
                [y.at((batch * m + row) * n) for row in rows],
                n,
                k,
            )

    return library.launcher("matmul", 6, emit)


def _row_tile(lhs: list[Ptr], rhs: Ptr, y: list[Ptr], n: Val, k: Val) -> None:
    wide = COLUMN_VECTORS * LANES
    whole = n // wide * wide

    @repeat(0, whole, wide)
    def _(column: Val) -> None:
        positions = [column + j * LANES for j in range(COLUMN_VECTORS)]

        @repeat(0, k, carry=[splat(0.0)] * (ROWS * COLUMN_VECTORS))
        def sums(s: Val, *sums: Val) -> list[Val]:
            panel = [rhs.at(s * n + position).load(floats()) for position in positions]
            factors = [broadcast(row.at(s).load()) for row in lhs]
            return [
                fma(factor, panel[j], sums[i * COLUMN_VECTORS + j])
                for i, factor in enumerate(factors)
                for j in range(COLUMN_VECTORS)
            ]

        for i, row in enumerate(y):
            for j, position in enumerate(positions):
                row.at(position).store(sums[i * COLUMN_VECTORS + j])

    @repeat(whole, n, LANES)
    def _(column: Val) -> None:
        mask = lane_mask(n - column)

        @repeat(0, k, carry=[splat(0.0)] * ROWS)
        def sums(s: Val, *sums: Val) -> list[Val]:
            panel = rhs.at(s * n + column).load_while(mask)
            return [
                fma(broadcast(row.at(s).load()), panel, total)
                for row, total in zip(lhs, sums, strict=True)
            ]

        for row, total in zip(y, sums, strict=True):
            row.at(column).store_while(mask, total)


def convert_matmul(site: CallSite, op: qcc.MatmulOp) -> None:
    batch, m, k = (site.extent(op.lhs, axis) for axis in range(3))
    n = site.extent(op.rhs, 2)
    sizes = {0: batch, 1: m, 2: n}
    value, address = site.result(op.result.type, site.dynamic_like(op.result.type, sizes))
    arguments = [site.address(op.lhs), site.address(op.rhs), address, m, n, k]
    total = batch * ((m + (ROWS - 1)) // ROWS)
    site.launch(matmul_launcher(site.library), arguments, total, grain_of(total))
    replace_op(op, value)

"""
The kernel of a product of two activations, over tiles.

    y = qcc.matmul a, b
      =>  tile.warp_kernel { loop over k { rows of a, b; multiply } each; save }

Factors are f16 or bf16 (fp32 is rounded as it is copied), sums fp32. Rows beyond either matrix are
zeros, so that any sizes will do.
"""

from __future__ import annotations

from ..dialects import tile
from ..dialects.bindings import arith, ir
from ..dialects.tile.matmul_problem import MatmulProblem, MatmulSchedule
from ..dialects.tile.warp_launch import WarpLaunch
from .tile_builder import (
    Number,
    block_along,
    each,
    fill,
    fragment,
    index,
    loop,
    rows_of,
    shared,
    text,
    write_kernel,
)

NUMBERS = ("batch", "rows")


def matmul_kernel(
    problem: MatmulProblem, schedule: MatmulSchedule, name: str, target: str = "sm_80"
) -> WarpLaunch:
    """
    Write the kernel at the insertion point; its grid is (tiles of rows times tiles of
    columns times batch, 1, 1).

    Arguments: "left", "right", "result", then "batch" and the "rows" of left.
    """
    p, s = problem, schedule
    kinds = {"left": rows_of(p.depth, p.left), "right": rows_of(p.columns, p.right)}
    kinds |= {"result": rows_of(p.columns, p.result)}
    kinds |= dict.fromkeys(NUMBERS, ir.IndexType.get())
    comment = (
        f"{p.left} by {p.right}, [rows, {p.depth}] x [{p.depth}, {p.columns}]: tiles of "
        f"{s.block_rows} x {s.block_columns}, {s.warps} warps"
    )
    return write_kernel(
        name, (target, s.warps), kinds, ("result",), lambda given: _write(p, s, given), comment
    )


def _write(p: MatmulProblem, s: MatmulSchedule, given: dict[str, ir.Value]) -> None:
    batch, rows = (Number(given[name]) for name in NUMBERS)
    row_tiles = rows.pieces(s.block_rows).named("row_tiles")
    row_tile, column_tile, of_batch = block_along(
        [("row_tile", row_tiles), ("column_tile", -(-p.columns // s.block_columns))], "item"
    )
    first = (row_tile * s.block_rows).named("first_row")
    column = (column_tile * s.block_columns).named("first_column")
    warp = Number(index("warp", "warp"))
    warp_row = warp // s.warps_n * s.warp_rows
    warp_column = warp % s.warps_n * s.columns if s.warps_n > 1 else Number(0)
    base = (of_batch * rows).named("base")
    sizes = {"left": batch * rows, "right": batch * p.depth, "result": batch * rows}
    views = {name: tile.ViewOp(given[name], size.value, given[name].type).view
             for name, size in sizes.items()}  # fmt: skip
    sums = fragment([s.warps, s.warp_rows, s.columns], "f32", "c")
    left_kind = fragment([s.warps, s.warp_rows, s.depth], p.operand, "a")
    right_kind = fragment([s.warps, s.columns, s.depth], p.operand, "b")
    zero = Number(0).value

    def step(k: Number, carried: list[ir.Value]) -> list[ir.Value]:
        hint, left_count = text("normal"), (rows - first).value
        left = tile.RowsOp(
            views["left"], (base + first).value, k.value, left_count, hint,
            shared([s.block_rows, s.depth], p.operand),
        ).tile  # fmt: skip
        right = tile.RowsOp(
            views["right"], (of_batch * p.depth + k).value, column.value,
            (Number(p.depth) - k).value, hint, shared([s.depth, s.block_columns], p.operand),
        ).tile  # fmt: skip
        a = tile.OperandOp(left, warp_row.value, zero, text("straight"), left_kind).fragment
        b = tile.OperandOp(right, zero, warp_column.value, text("transposed"), right_kind).fragment
        name = text(p.instruction)
        return [tile.MultiplyOp(a, b, carried[0], zero, name, sums).result]

    initial = [fill(0.0, sums, "sums")]
    (total,) = loop(Number(0), Number(p.depth), initial, s.depth, s.stages, step)
    if p.result != "f32":
        kind = fragment([s.warps, s.warp_rows, s.columns], p.result, "c")
        total = each([total], kind, lambda x: arith.truncf(ir.Type.parse(p.result), x), "results")
    row, limit = (base + first + warp_row).value, (base + rows).value
    tile.SaveOp(total, views["result"], row, (column + warp_column).value, limit)

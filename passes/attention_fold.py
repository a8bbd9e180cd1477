"""The kernel that folds what blocks found of their shares of the keys, in the order of the keys."""

from __future__ import annotations

from math import log2

from ..dialects import tile
from ..dialects.bindings import arith, ir, math
from ..dialects.tile.attention_problem import AttentionProblem
from ..dialects.tile.dialect import tensor_of
from ..dialects.tile.warp_launch import WarpLaunch
from .tile_builder import (
    Number,
    block_along,
    each,
    fill,
    fragment,
    index,
    label,
    loop,
    quotient,
    rows_of,
    single,
    write_kernel,
)

LOWEST = -1e30
"""The highest score of no keys: finite, so that -inf - m is defined where every score is -inf."""
LOG2_E = log2(2.718281828459045)
PARTIALS = ("sums", "tops", "totals")
FOLD_ROWS = 16


def attention_fold(
    problem: AttentionProblem, splits: int, name: str, target: str = "sm_80"
) -> WarpLaunch:
    """
    The kernel that folds what blocks found of `splits` shares of the keys, in their order.

    Its grid is (tiles of FOLD_ROWS rows times planes, 1, parts of a value's columns).
    """
    p, factor = problem, LOG2_E * (1.0 if problem.masked else problem.scale)
    kinds = {"sums": rows_of(p.values.depth, "f32")}
    kinds |= dict.fromkeys(("tops", "totals"), rows_of(1, "f32"))
    kinds |= {"result": rows_of(p.values.depth, p.result)}
    kinds |= dict.fromkeys(("planes", "queries"), ir.IndexType.get())
    per_row = fragment([1, FOLD_ROWS], "f32", "rows")
    held = fragment([1, FOLD_ROWS, p.value_columns], "f32", "c")

    def write(given: dict[str, ir.Value]) -> None:
        rows = (Number(given["queries"]) * p.group).named("rows")
        blocks = rows.pieces(FOLD_ROWS).named("row_blocks")
        row_block, plane = block_along([("row_block", blocks)], "plane")
        first = (row_block * FOLD_ROWS).named("row")
        part = Number(index("z", "part")) if p.parts > 1 else Number(0)
        all_rows = Number(given["planes"]) * rows
        views = [tile.ViewOp(given[each], (all_rows * splits).value, given[each].type).view
                 for each in PARTIALS]  # fmt: skip
        result = tile.ViewOp(given["result"], all_rows.value, given["result"].type).view
        column = part * p.value_columns

        def picked(view: ir.Value, kind: ir.Type, split: Number, at: Number, name: str) -> ir.Value:
            base = (plane * splits + split) * rows
            row, limit = (base + first).value, (base + rows).value
            return label(tile.PickOp(view, row, at.value, limit, kind).fragment, name)

        def fold(split: Number, carried: list[ir.Value]) -> list[ir.Value]:
            top, total, sums = carried
            part_sums = picked(views[0], held, split, column, "part_sums")
            part_top = picked(views[1], per_row, split, Number(0), "part_top")
            part_total = picked(views[2], per_row, split, Number(0), "part_total")
            highest = each([top, part_top], per_row, arith.maxnumf, "highest")

            def turned(before: ir.Value, after: ir.Value) -> ir.Value:
                return math.exp2(arith.mulf(arith.subf(before, after), single(factor)))

            old, new = (each([x, highest], per_row, turned, n)
                        for x, n in ((top, "turn"), (part_top, "part_turn")))  # fmt: skip

            def weighed(a, by, b, times):
                return arith.addf(arith.mulf(a, by), arith.mulf(b, times))

            total = each([total, old, part_total, new], per_row, weighed, "total")
            sums = each([sums, old, part_sums, new], held, weighed, "sums")
            return [highest, total, sums]

        initial = [fill(LOWEST, per_row, "top"), fill(0.0, per_row, "total"),
                   fill(0.0, held, "sums")]  # fmt: skip
        _, total, sums = loop(Number(0), Number(splits), initial, 1, 0, fold)
        found = quotients(sums, total, per_row, p.result)
        base = plane * rows
        row, limit = (base + first).value, (base + rows).value
        tile.SaveOp(found, result, row, column.value, limit)

    comment = f"What {splits} blocks found of other keys, together: in their order, results repeat"
    return write_kernel(name, (target, 1), kinds, ("result",), write, comment)


def quotients(sums: ir.Value, total: ir.Value, per_row: ir.Type, kind: str) -> ir.Value:
    """Sums over totals in the type of the result; zeros for a row that sees no key."""

    def inverse(total: ir.Value) -> ir.Value:
        empty = arith.cmpf(arith.CmpFPredicate.OEQ, total, single(0.0))
        return arith.select(empty, single(0.0), quotient(single(1.0), total))

    factor = each([total], per_row, inverse, "inverse")
    shape = tensor_of(sums.type).shape

    def scaled(value: ir.Value, factor: ir.Value) -> ir.Value:
        value = arith.mulf(value, factor)
        return value if kind == "f32" else arith.truncf(ir.Type.parse(kind), value)

    return each([sums, factor], fragment(shape, kind, "c"), scaled, "results")

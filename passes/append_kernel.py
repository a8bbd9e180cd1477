"""
The kernel that appends keys and values of a call to their cache, a tile of positions for a block.

    codes = qcc.quantize %k   =>   tile.warp_kernel { flags of rows; repack codes; move scales }

Rows were encoded before, by the kernels of `qcc.quantize`; here their codes go to the packets that
attention reads, at positions past, past + 1, …. A position whose key or value is not finite is
flagged with NaN, which reaches the results of those queries alone that see it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects import tile
from ..dialects.bindings import arith, ir
from ..dialects.formats.packets import PACKET_ROWS
from ..dialects.tile.attention_problem import (
    KEYS,
    AttentionProblem,
    Rows,
    packet_columns,
    row_parts,
    sixteens,
)
from ..dialects.tile.warp_launch import WarpLaunch
from .tile_builder import (
    Number,
    block_along,
    each,
    fill,
    fragment,
    index,
    label,
    reduced,
    rows_of,
    single,
    text,
    whole,
    write_kernel,
)

WARPS = 4
ROWS = KEYS // WARPS
CHECKED_COLUMNS = 64


def append_kernel(
    problem: AttentionProblem, name: str, target: str = "sm_80", given: str = "f32"
) -> WarpLaunch:
    """
    Write the kernel at the insertion point. Its grid is (tiles of KEYS positions, planes).

    Arguments "new_key" and "new_value" are rows of `given`; "new_key_codes", "new_key_scale", …
    those encoded,
    a byte for each code; "key_codes", …, "key_flags" the cache; then planes, queries, past and
    capacity.
    """
    writer = _Append(problem, given)
    kinds = writer.argument_types()
    comment = f"Rows of a call to their places in the caches, {KEYS} positions a block"
    return write_kernel(name, (target, WARPS), kinds, writer.written(), writer.write, comment)


@dataclass
class _Append:
    problem: AttentionProblem
    given: str

    @property
    def sides(self) -> tuple[Rows, Rows]:
        return self.problem.keys, self.problem.values

    @property
    def flagged(self) -> bool:
        return any(rows.format is not None for rows in self.sides)

    def written(self) -> list[str]:
        names = ["key_flags"] * self.flagged
        for rows in self.sides:
            parts = ("codes", *row_parts(rows))
            names += [f"{rows.name}_{part}" for part in parts] if rows.format else [rows.name]
        return names

    def argument_types(self) -> dict[str, ir.Type]:
        kinds: dict[str, ir.Type] = {}
        for rows in self.sides:
            name, fmt = rows.name, rows.format
            kinds[f"new_{name}"] = rows_of(rows.depth, self.given)
            if fmt is None:
                kinds[name] = rows_of(rows.depth, rows.element)
                continue
            kinds[f"new_{name}_codes"] = rows_of(rows.depth, "ui8")
            kinds[f"{name}_codes"] = rows_of(packet_columns(rows), "ui32")
            for role, (columns, kind) in row_parts(rows).items():
                kinds[f"new_{name}_{role}"] = rows_of(columns, kind)
                kinds[f"{name}_{role}"] = rows_of(columns, kind)
        if self.flagged:
            kinds["key_flags"] = rows_of(1, "f32")
        return kinds | dict.fromkeys(("planes", "queries", "past", "capacity"), ir.IndexType.get())

    def write(self, given: dict[str, ir.Value]) -> None:
        planes, queries, past, capacity = (
            Number(given[name]) for name in ("planes", "queries", "past", "capacity")
        )
        tiles = ((past + queries).pieces(KEYS) - past // KEYS).named("key_tiles")
        of_call, plane = block_along([("tile_of_call", tiles)], "plane")
        tile_ = (past // KEYS + of_call).named("key_tile")
        position = (tile_ * KEYS).named("position")
        # Rows of this call from `first` on go to the positions begin … end - 1 of the tile.
        begin = (past - position).most(0).named("begin")
        end = (past + queries - position).least(KEYS).named("end")
        self.begin, self.end = begin, end
        self.count = (end - begin).named("count")
        self.first = (plane * queries + position + begin - past).named("first")
        self.to = (plane * capacity + position).named("cached")
        self.tile_row = plane * capacity // KEYS + tile_
        new_rows, cached = planes * queries, planes * capacity
        self.views = {
            name: self.view(name, value, new_rows, cached)
            for name, value in given.items()
            if str(value.type).startswith("!tile.")
        }
        if self.flagged:
            self.flag()
        for rows in self.sides:
            self.append(rows)

    def view(self, name: str, value: ir.Value, new_rows: Number, cached: Number) -> ir.Value:
        rows = new_rows if name.startswith("new_") else cached
        if name in ("key_codes", "value_codes"):
            rows = rows // (PACKET_ROWS if name == "key_codes" else KEYS)
        return tile.ViewOp(value, rows.value, value.type).view

    def flag(self) -> None:
        """x * 0 is NaN where x is not finite; a row's sum of them is its flag."""
        per_row = fragment([WARPS, ROWS], "f32", "rows")
        total = fill(0.0, per_row, "flag")
        warp = Number(index("warp", "warp"))
        row = (self.first + warp * ROWS).value
        limit = (self.first + self.count).value
        for rows in self.sides:
            for column in range(0, rows.depth, CHECKED_COLUMNS):
                columns = min(CHECKED_COLUMNS, sixteens(rows.depth - column))
                kind = fragment([WARPS, ROWS, columns], "f32", "c")
                source = self.views[f"new_{rows.name}"]
                picked = tile.PickOp(source, row, Number(column).value, limit, kind).fragment
                label(picked, f"new_{rows.name}_tile")
                zeros = each([picked], kind, lambda x: arith.mulf(x, single(0.0)))
                total = reduced(zeros, "add", "columns", per_row, total, "flag")
        to = self.to + self.begin
        target = self.views["key_flags"]
        where = ((to + warp * ROWS).value, Number(0).value, (to + self.count).value)
        tile.SaveOp(total, target, *where)
        tile.SyncOp()

    def append(self, rows: Rows) -> None:
        name, to = rows.name, self.to + self.begin
        flags = self.views.get("key_flags")
        roles = [""] if rows.format is None else [f"_{part}" for part in row_parts(rows)]
        for role in roles:
            poisoned = {"flags": flags} if flags is not None and not role and name == "key" else {}
            tile.MoveOp(
                self.views[f"new_{name}{role}"], self.first.value, self.views[f"{name}{role}"],
                to.value, self.count.value, **poisoned,
            )  # fmt: skip
        if rows.format is None or flags is None or rows.spelling is None:
            return
        strips = "rows" if name == "key" else "columns"
        row = self.tile_row * (KEYS // PACKET_ROWS if name == "key" else 1)
        tile.RepackOp(
            self.views[f"new_{name}_codes"], self.first.value, self.begin.value, self.end.value,
            self.views[f"{name}_codes"], row.value, flags, self.to.value, text(rows.spelling),
            text(self.problem.operand), whole(rows.depth), text(strips),
        )  # fmt: skip

"""
Kernels that look up in tables made before (methods `packed` and `canonical`, pim.md §1.5).

    for each token, for each chunk of groups:
        places = (column, permutation) of each group
        slices = table[column], orders = reorder[permutation]           unless they are resident
        for each row: sums[row] += Σ_g slices[g][orders[g][code[row, g]]]

Exact: entries are sums of p products. Without a reordering table a code is the entry itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects import pim
from ..dialects.bindings import arith, ir
from ..dialects.pim.device import DMA_MOST
from ..dialects.pim.footprint import WIDTH, reorders
from ..dialects.pim.schedule import Share
from .pim_rounds import Place, each_round
from .pim_writer import Words, Writer, unrolled

AHEAD = 4
"""Groups whose loads compilers may start together, of slices at known places."""


def write_tables(out: Writer, share: Share) -> None:
    _Tables(out, share).write()


@dataclass
class _Tables:
    out: Writer
    share: Share

    @property
    def kinds(self) -> list[tuple[str, str, int]]:
        """Array, buffer and column of places of each table."""
        both = [("table", "slices", 0), ("reorder", "orders", 1)]
        return both if reorders(self.share) else both[:1]

    @property
    def resident(self) -> bool:
        return self.share.schedule.residency == "resident"

    def write(self) -> None:
        s, share = self.share.schedule, self.share
        self.me = pim.TaskletOp(ir.IntegerType.get_signless(32)).index
        self.row = self.out.times(self.me, share.rows_each) if s.shared else self.out.word(0)
        if self.resident:
            self.load_tables()
            pim.BarrierOp()
        first, step = (0, 1) if s.shared else (self.me, s.tasklets)
        note = "all tasklets share a token" if s.shared else "tokens of this tasklet"

        def round_(at: Place) -> None:
            def token(number: ir.Value, _: Words) -> None:
                self.token(self.out.add(number, at.tile), at.chunk)

            self.out.loop("token", first, share.tokens, token, step=step, note=note)

        each_round(self.out, share, share.tokens, round_)

    def load_tables(self) -> None:
        """Both tables to WRAM, in pieces, by all tasklets."""
        out, t = self.out, self.share.tables
        for array, buffer, _ in self.kinds:
            columns, rows, element = t.shape("reorder" if array == "reorder" else
                                             self.share.schedule.method)  # fmt: skip
            piece = DMA_MOST // WIDTH[element]
            whole, rest = divmod(columns * rows, piece)

            def load(
                number: ir.Value, _: Words, array: str = array, buffer: str = buffer,
                piece: int = piece,
            ) -> None:  # fmt: skip
                at = out.times(number, piece)
                out.copy_in(array, at, buffer, at, piece)

            def load_rest(
                number: ir.Value, _: Words, array: str = array, buffer: str = buffer,
                at: int = whole * piece, rest: int = rest,
            ) -> None:  # fmt: skip
                out.copy_in(array, at, buffer, at, rest)

            tasklets = self.share.schedule.tasklets
            if whole:
                out.loop("piece", self.me, whole, load, step=tasklets, note=f"the {array}, once")
            if rest:
                out.loop("rest", self.me, 1, load_rest, step=tasklets)

    def token(self, token: ir.Value, first: ir.Value | int) -> None:
        out, share = self.out, self.share

        def clear(index: ir.Value, _: Words) -> None:
            out.store(0, "sums", index)

        out.loop("i", 0, share.rows_each, clear, unroll=unrolled(share.rows_each, 8))
        out.loop("chunk", 0, share.chunks, lambda chunk, _: self.chunk(token, chunk, first))
        place = out.add(out.times(token, share.rows), self.row)
        out.copy_out("sums", 0, "results", place, share.rows_each)

    def chunk(self, token: ir.Value, chunk: ir.Value, first: ir.Value | int) -> None:
        out, share, s = self.out, self.share, self.share.schedule
        held = out.add(chunk, first)
        at = out.add(out.times(token, share.groups), out.times(chunk, s.groups))
        out.copy_in("places", out.times(at, 2), "places", 0, 2 * s.groups, "columns of groups")
        if self.resident:
            self.accumulate(held)
            return
        (self.share_slices if s.shared else self.own_slices)()
        if s.shared:
            pim.BarrierOp()
        self.accumulate(held)
        if s.shared:
            pim.BarrierOp()

    def own_slices(self) -> None:
        out, rows = self.out, self.share.tables.rows
        for group in range(self.share.schedule.groups):
            for array, buffer, which in self.kinds:
                place = out.load("places", 0, 2 * group + which)
                pim.SliceLoadOp(
                    out.arrays[array], place, out.buffers[buffer], out.word(group * rows)
                )

    def share_slices(self) -> None:
        """Pieces of all slices of the chunk, in turn by tasklets."""
        out, share, s = self.out, self.share, self.share.schedule
        for array, buffer, which in self.kinds:
            rows = share.tables.rows
            width = WIDTH[share.tables.code if array == "reorder" else share.tables.entry]
            piece = min(rows, DMA_MOST // width)
            parts = rows // piece

            def one(
                item: ir.Value, _: Words, array: str = array, buffer: str = buffer,
                which: int = which, piece: int = piece, parts: int = parts,
            ) -> None:  # fmt: skip
                bits = parts.bit_length() - 1
                group = arith.shrui(item, out.word(bits)) if bits else item
                part = arith.andi(item, out.word(parts - 1)) if bits else out.word(0)
                inside = out.times(part, piece)
                place = out.load("places", out.times(group, 2), which)
                source = out.add(out.times(place, share.tables.rows), inside)
                target = out.add(out.times(group, share.tables.rows), inside)
                out.copy_in(array, source, buffer, target, piece, f"slices of the {array}")

            out.loop("item", self.me, s.groups * parts, one, step=s.tasklets)

    def accumulate(self, chunk: ir.Value) -> None:
        out, share, s = self.out, self.share, self.share.schedule
        blocks = share.rows // s.row_block
        first = out.times(self.me, share.rows_each // s.row_block) if s.shared else 0
        slices = self.slices()

        def block(number: ir.Value, _: Words) -> None:
            place = out.add(out.times(chunk, blocks), out.add(first, number))
            count = s.groups * s.row_block
            out.copy_in("weights", out.times(place, count), "codes", 0, count, "codes of rows")
            at = out.times(number, s.row_block)
            out.loop("row", 0, s.row_block, lambda r, _: self.add_row(r, at, slices),
                     unroll=unrolled(s.row_block, max(1, 16 // s.groups)))  # fmt: skip

        out.loop("block", 0, share.rows_each // s.row_block, block)

    def slices(self) -> list[tuple[ir.Value, ir.Value | None]]:
        """Where the slices of each group are, table and reordering."""
        out, rows, found = self.out, self.share.tables.rows, []
        for group in range(self.share.schedule.groups):
            places = [
                out.times(out.load("places", 0, 2 * group + which), rows)
                if self.resident
                else out.word(group * rows)
                for _, _, which in self.kinds
            ]
            found.append((places[0], places[1] if len(places) > 1 else None))
        return found

    def add_row(
        self, row: ir.Value, at: ir.Value, slices: list[tuple[ir.Value, ir.Value | None]]
    ) -> None:
        """The lookups of a chunk's groups for one row."""
        out, block = self.out, self.share.schedule.row_block
        place = out.add(at, row)
        total = out.load("sums", place)
        for group, (slice_, order) in enumerate(slices):
            code = out.load("codes", row, group * block)
            reorder = None if order is None else ("orders", order)
            total = out.lookup(total, code, slice_, table="slices", reorder=reorder)
            if group % AHEAD == AHEAD - 1 and not self.resident:
                pim.OrderOp()
        out.store(total, "sums", place)

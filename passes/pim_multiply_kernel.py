"""
Kernels that multiply bytes, one product a slot (method `multiply`).

    for each tile of tokens, for each chunk of K:
        for each tile of rows: sums[token, row] += Σ_k w[row, k] · a[token, k]

Four bytes are loaded as a word; products take its low and high byte, then both words move down by
16 bits. Sums of a register tile stay in registers for a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects import pim
from ..dialects.bindings import arith, ir
from ..dialects.pim.footprint import padded
from ..dialects.pim.schedule import Share
from .pim_fixed_point import HIGH, LOW, multiplied
from .pim_rounds import Place, each_round
from .pim_writer import Words, Writer, unrolled


def write_multiply(out: Writer, share: Share) -> None:
    _Multiply(out, share).write()


@dataclass
class _Multiply:
    out: Writer
    share: Share

    def write(self) -> None:
        s, share = self.share.schedule, self.share
        me = pim.TaskletOp(ir.IntegerType.get_signless(32)).index
        note = "a token of this tasklet" if s.words == 1 else f"{s.words} tokens of this tasklet"

        def round_(at: Place) -> None:
            def tile(number: ir.Value, _: Words) -> None:
                self.tile(self.out.add(number, at.tile), at.chunk)

            self.out.loop("tile", me, share.tiles, tile, step=s.tasklets, note=note)

        each_round(self.out, share, share.tiles, round_)

    @property
    def width(self) -> int:
        return padded(self.share.rows, 4)

    def tile(self, tile: ir.Value, first: ir.Value | int) -> None:
        out, s, share = self.out, self.share.schedule, self.share
        count = s.words * self.width

        def clear(index: ir.Value, _: Words) -> None:
            out.store(0, "sums", index)

        out.loop("i", 0, count, clear, unroll=unrolled(count, 8))
        out.loop("chunk", 0, share.chunks, lambda chunk, _: self.chunk(tile, chunk, first))
        out.copy_out("sums", 0, "results", out.times(tile, count), count)

    def chunk(self, tile: ir.Value, chunk: ir.Value, first: ir.Value | int) -> None:
        out, s, share = self.out, self.share.schedule, self.share
        held = out.add(chunk, first)
        for token in range(s.words):
            at = out.add(out.times(tile, s.words), token)
            at = out.add(out.times(at, share.groups), out.times(chunk, s.groups))
            out.copy_in("inputs", at, "inputs", token * s.groups, s.groups, "inputs of a token")

        def block(number: ir.Value, _: Words) -> None:
            row = out.times(number, s.row_block)
            at = out.times(out.add(out.times(held, share.rows), row), s.groups)
            out.copy_in("weights", at, "codes", 0, s.row_block * s.groups, "weights of rows")
            self.product(row)

        out.loop("block", 0, share.rows // s.row_block, block)

    def product(self, row: ir.Value) -> None:
        """A register tile: rows x tokens over the chunk."""
        out, s = self.out, self.share.schedule
        cells = [(r, t) for r in range(s.row_block) for t in range(s.words)]
        sums = [out.load("sums", row, t * self.width + r) for r, t in cells]

        def step(index: ir.Value, totals: Words) -> Words:
            rows = [out.load("codes", index, r * s.groups) for r in range(s.row_block)]
            tokens = [out.load("inputs", index, t * s.groups) for t in range(s.words)]
            for half in range(2):
                if half:
                    sixteen = out.word(16)
                    rows = [arith.shrui(each, sixteen) for each in rows]
                    tokens = [arith.shrui(each, sixteen) for each in tokens]
                for byte in (LOW, HIGH):
                    totals = [
                        out.add(total, multiplied(rows[r], tokens[t], byte, byte))
                        for total, (r, t) in zip(totals, cells, strict=True)
                    ]
            pim.OrderOp()
            return totals

        unroll = unrolled(s.groups, max(1, 8 // len(cells)))
        sums = out.loop("i", 0, s.groups, step, unroll=unroll, carried=sums)
        for total, (r, t) in zip(sums, cells, strict=True):
            out.store(total, "sums", row, t * self.width + r)

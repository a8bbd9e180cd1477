"""
The end of a layer's kernel that computes a function of its results (dialects/pim/fused.py).

    sums in MRAM, words of rows and tokens   =>   results[tile, row, token] = function(sum)

After a barrier tasklets take blocks of rows, or tiles of tokens, whichever they share better.
Exact: equals FusedFunction.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects import pim
from ..dialects.bindings import arith, ir
from ..dialects.pim.dialect import wram_of
from ..dialects.pim.footprint import WIDTH
from ..dialects.pim.fused import (
    BITS,
    EXPONENT,
    LAST,
    MIDDLE,
    FusedFunction,
    fused_arrays,
    lanes_of,
    result_shape,
)
from ..dialects.pim.layout import correction
from ..dialects.pim.schedule import Share
from .pim_fixed_point import Halfword, Normalized, called, cell_value, half_of
from .pim_writer import Words, Writer, unrolled

MOST_ROWS = 32
"""Rows of a block."""


def write_epilogue(out: Writer, share: Share, function: FusedFunction) -> None:
    _Epilogue(out, share, function).write()


@dataclass(frozen=True)
class _Token:
    """The factor of a token, and what the exponents of a sum and a row are added to."""

    factor: Halfword
    exponent: ir.Value


@dataclass
class _Epilogue:
    out: Writer
    share: Share
    function: FusedFunction

    def __post_init__(self) -> None:
        self.units, self.rows, self.words = result_shape(self.share)
        self.lanes = lanes_of(self.share)
        self.shapes = fused_arrays(self.share, self.function)
        width = WIDTH[self.shapes["sums"][1]]
        self.block = next(
            each
            for each in range(min(MOST_ROWS, self.rows), 0, -1)
            if self.rows % each == 0
            and each * self.words * width % 8 == each * self.tokens * 4 % 8 == 0
        )

    @property
    def tokens(self) -> int:
        return self.words * self.lanes

    @property
    def blocks(self) -> int:
        return self.rows // self.block

    def write(self) -> None:
        out, tasklets = self.out, self.share.schedule.tasklets
        self.buffers()
        me = pim.TaskletOp(ir.IntegerType.get_signless(32)).index

        def load(_: ir.Value, __: Words) -> None:
            for name in ("base", "slope"):
                out.copy_in(name, 0, name, 0, self.shapes[name][0][0], f"the table {name}, once")

        out.loop("first", me, 1, load, step=tasklets)
        pim.BarrierOp()
        by_rows = self.units * -(-self.blocks // tasklets)
        shares_rows = by_rows <= -(-self.units // tasklets) * self.blocks

        def tile(unit: ir.Value, _: Words) -> None:
            tokens = self.load_tokens(unit)
            first, step = (me, tasklets) if shares_rows else (0, 1)
            out.loop(
                "part", first, self.blocks, lambda i, _: self.rows_of(unit, i, tokens), step=step
            )

        first, step = (0, 1) if shares_rows else (me, tasklets)
        note = f"{self.function.name} of sums, a tile of {self.tokens} tokens"
        out.loop("unit", first, self.units, tile, step=step, note=note)

    def buffers(self) -> None:
        shapes, block = self.shapes, self.block
        for name, count, element, scope in (
            ("base", shapes["base"][0][0], "si16", "shared"),
            ("slope", shapes["slope"][0][0], "si8", "shared"),
            ("tile_factors", shapes["token_factors"][0][1], "ui32", "private"),
            ("row_factors", 2 * block, "ui32", "private"),
            ("block_sums", block * self.words, shapes["sums"][1], "private"),
            ("found", block * self.tokens, "si32", "private"),
        ):
            kind = wram_of([count], element, scope)
            self.out.buffers[name] = pim.WramAllocOp(ir.StringAttr.get(name), kind).buffer

    def load_tokens(self, unit: ir.Value) -> list[_Token]:
        out, width = self.out, self.shapes["token_factors"][0][1]
        out.copy_in("token_factors", out.times(unit, width), "tile_factors", 0, width)
        found = []
        for token in range(self.tokens):
            word = called(out.load("tile_factors", token), "token_word")
            factor = called(arith.andi(word, out.word(0xFFFF)), "token_factor")
            start = out.word(2 * EXPONENT - 32)
            exponent = arith.subi(start, arith.shrui(word, out.word(16)))
            found.append(_Token(Halfword.of(out, factor), called(exponent, "token_exponent")))
        return found

    def rows_of(self, unit: ir.Value, part: ir.Value, tokens: list[_Token]) -> None:
        """A block of rows of a tile."""
        out, block = self.out, self.block
        row = out.times(part, block)
        out.copy_in("factors", out.times(row, 2), "row_factors", 0, 2 * block, "factors and biases")
        at = out.add(out.times(unit, self.rows), row)
        out.copy_in("sums", out.times(at, self.words), "block_sums", 0, block * self.words)
        unroll = unrolled(block, max(1, 4 // self.tokens))
        out.loop("row", 0, block, lambda i, _: self.row(i, tokens), unroll=unroll)
        out.copy_out("found", 0, "results", out.times(at, self.tokens), block * self.tokens)

    def row(self, row: ir.Value, tokens: list[_Token]) -> None:
        out = self.out
        word = called(out.load("row_factors", out.times(row, 2)), "row_word")
        factor = called(arith.andi(word, out.word(0xFFFF)), "row_factor")
        by = Halfword.of(out, factor)
        exponent = called(arith.shrui(word, out.word(16)), "row_exponent")
        bias = called(out.load("row_factors", out.times(row, 2), 1), "bias")
        sums: list[ir.Value] = []
        for i in range(self.words):
            held = called(out.load("block_sums", out.times(row, self.words), i), "sum_word")
            sums += self.apart(held) if self.lanes == 2 else [held]
        for i, (total, token) in enumerate(zip(sums, tokens, strict=True)):
            if constant := correction(self.share).item():
                total = arith.subi(total, out.word(constant))
            moved = arith.subi(token.exponent, exponent)
            u = out.add(self.scaled(total, by, token.factor, moved), bias)
            out.store(self.value(called(u, "steps")), "found", out.times(row, self.tokens), i)

    def apart(self, word: ir.Value) -> list[ir.Value]:
        """The two sums of a word."""
        out, sixteen = self.out, self.out.word(16)
        low = called(arith.shrsi(out.shifted(word, 16), sixteen), "low_sum")
        return [low, called(arith.shrsi(out.subtract(word, low), sixteen), "high_sum")]

    def scaled(
        self, total: ir.Value, row: Halfword, token: Halfword, exponent: ir.Value
    ) -> ir.Value:
        """The sum times both factors, in steps of the table."""
        out = self.out
        bits = arith.xori(total, arith.shrsi(total, out.word(31)))
        zeros = Normalized.of(arith.ori(bits, out.word(1))).zeros
        high = out.add(arith.shli(total, arith.subi(zeros, out.word(2))), 1 << 15)
        mantissa = called(arith.shrsi(high, out.word(16)), "mantissa")
        product = out.add(Halfword.of(out, mantissa).times(row, out), 1 << (BITS - 1))
        product = called(arith.shrsi(product, out.word(BITS)), "product")
        wanted = called(out.add(zeros, exponent), "wanted")
        shift = called(arith.minui(wanted, out.word(31)), "shift")
        steps = out.add(Halfword.of(out, product).times(token, out), half_of(out, shift, "half"))
        return arith.shrsi(steps, shift)

    def value(self, steps: ir.Value) -> ir.Value:
        """The table at so many steps, MIDDLE added; beyond it the number itself, or the end."""
        out = self.out
        above = called(arith.maxui(steps, out.word(MIDDLE)), "above")
        inside = called(arith.minui(above, out.word(MIDDLE + LAST)), "inside")
        code = called(arith.subi(inside, out.word(MIDDLE)), "code")
        found = cell_value(out, self.function.form.table, code)
        if not self.function.grows:
            return found
        return out.add(found, out.shifted(arith.subi(above, inside), 1))

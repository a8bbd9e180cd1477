"""
Kernels whose tables are made where they are used (methods `fly` and `lanes`).

    for each tile of tokens, for each chunk of groups:
        make the table of each group:   table[r, word] = Σ W(w_i) · a_i       [barrier]
        for each row: sums[row, word] += table[code[row, group], word]        [barrier]

Exact. With two lanes a word is a_0 + 2^16 · a_1 as integers, so that sums of words are sums of
both; a lane of a span fits 16 bits (Share.spans), and the parts come apart at its end: low =
sign-extended lower half, high = (word - low) >> 16. With four, a word is a_0 + 2^8 · a_2 + 2^16 ·
a_1 + 2^24 · a_3. A burst of groups, whose sums fit 8 bits, starts at 128 in each lane, so that none
is negative; then bytes 0, 2 and bytes 1, 3 are added to sums of two lanes, which began at
-128 for each burst to come.

A table is made by walking its low codes in an order in which neighbours differ in one code: one
addition and one store an entry, from the sums of the other codes, which doubling makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

from ..dialects import pim
from ..dialects.bindings import arith, ir
from ..dialects.pim.footprint import low_split, padded, table_parts
from ..dialects.pim.schedule import Share
from .pim_rounds import Place, each_round
from .pim_writer import Words, Writer, unrolled

WORD = (1 << 32) - 1
BYTE_START = 0x80808080
BYTE_PAIRS = 0x00FF00FF
BYTE_BIAS = 0x00800080
SHIFTS = {1: (), 2: ((1, 16),), 4: ((2, 8), (1, 16), (3, 24))}
"""For the tokens of a word after its first: which, and where in the word."""


def write_fly(out: Writer, share: Share) -> None:
    _Fly(out, share).write()


@dataclass
class _Fly:
    out: Writer
    share: Share

    def write(self) -> None:
        s, share = self.share.schedule, self.share
        self.me = pim.TaskletOp(ir.IntegerType.get_signless(32)).index
        self.row = self.out.times(self.me, share.rows_each) if s.shared else self.out.word(0)
        first, step = (0, 1) if s.shared else (self.me, s.tasklets)
        note = f"tiles of {s.tile} tokens, of " + ("all tasklets" if s.shared else "each tasklet")

        def round_(at: Place) -> None:
            def tile(number: ir.Value, _: Words) -> None:
                self.tile(self.out.add(number, at.tile), at.chunk)

            self.out.loop("tile", first, share.tiles, tile, step=step, note=note)

        each_round(self.out, share, share.tiles, round_)

    def tile(self, tile: ir.Value, held: ir.Value | int) -> None:
        out, share = self.out, self.share
        if share.spans > 1:
            self.fill("totals", share.rows_each * share.schedule.tile, 0)
        chunks = share.chunks // share.spans

        def span(number: ir.Value, _: Words) -> None:
            begin = -BYTE_BIAS * share.bursts & WORD
            self.fill("sums", share.rows_each * share.schedule.sums, begin)
            start = out.times(number, chunks)

            def one(number: ir.Value, _: Words) -> None:
                chunk = out.add(start, number)
                self.chunk(tile, chunk, out.add(chunk, held))

            out.loop("chunk", 0, chunks, one)
            if share.spans > 1:
                self.empty_lanes()

        out.loop("span", 0, share.spans, span)
        width = share.schedule.sums if share.spans == 1 else share.schedule.tile
        place = out.times(out.add(out.times(tile, share.rows), self.row), width)
        source = "sums" if share.spans == 1 else "totals"
        out.copy_out(source, 0, "results", place, share.rows_each * width)

    def fill(self, name: str, count: int, value: int) -> None:
        def body(index: ir.Value, _: Words) -> None:
            self.out.store(value, name, index)

        self.out.loop("i", 0, count, body, unroll=unrolled(count, 8))

    def chunk(self, tile: ir.Value, chunk: ir.Value, held: ir.Value) -> None:
        s = self.share.schedule
        self.tables(tile, chunk)
        if s.shared:
            pim.BarrierOp()
        self.accumulate(held)
        if s.shared:
            pim.BarrierOp()

    def tables(self, tile: ir.Value, chunk: ir.Value) -> None:
        """The tables of the chunk's groups; with `parts`, several tasklets make one."""
        out, s, parts = self.out, self.share.schedule, table_parts(self.share)

        def one(item: ir.Value, _: Words) -> None:
            bits = parts.bit_length() - 1
            group = arith.shrui(item, out.word(bits)) if bits else item
            part = arith.andi(item, out.word(parts - 1)) if bits else out.word(0)
            at = out.add(out.times(chunk, s.groups), group)
            at = out.add(out.times(tile, self.share.groups), at)
            width = padded(s.p * s.tile, 1)
            out.copy_in("inputs", out.times(at, width), "inputs", 0, width, "a group of inputs")
            out.loop("word", 0, s.words, lambda word, _: self.table(group, part, word))

        first, step = (self.me, s.tasklets) if s.shared else (0, 1)
        makers = "a tasklet" if parts == 1 else f"{parts} tasklets"
        note = f"tables of {s.groups} groups, {makers} for each" if s.shared else "tables"
        out.loop("item", first, s.groups * parts, one, step=step, note=note)

    def table(self, group: ir.Value, part: ir.Value, word: ir.Value) -> None:
        """One word of every entry of a table, or of this tasklet's part of them."""
        out, share, (low, uppers) = self.out, self.share, low_split(self.share)
        inputs = [self.input(word, position) for position in range(share.schedule.p)]
        path = walk_codes(share.problem.weights, low)
        start = self.start(inputs, low)
        block, words = share.tables.rows // uppers, share.schedule.words
        at = out.add(out.times(group, share.tables.rows * words), word)
        if uppers == 1:
            self.expand(start, inputs, path, at)
            return
        self.double(start, inputs, low)
        each = uppers // table_parts(share)
        first = out.times(part, each)

        def expand(upper: ir.Value, _: Words) -> None:
            index = out.add(first, upper)
            place = out.add(at, out.times(index, block * words))
            self.expand(out.load("upper", index), inputs, path, place)

        out.loop("upper", 0, each, expand, note=f"{block} entries from the sum of the other codes")

    def input(self, word: ir.Value, position: int) -> ir.Value:
        """The activation of the group at a position; of all tokens of a word, in their lanes."""
        out, s = self.out, self.share.schedule
        index = out.times(word, s.lanes)
        value = out.load("inputs", index, position * s.tile)
        for token, shift in SHIFTS[s.lanes]:
            other = out.load("inputs", index, position * s.tile + token)
            value = out.add(out.shifted(other, shift), value)
        return value

    def start(self, inputs: Words, low: int) -> ir.Value:
        """The sum where low codes are the least, and the others 0."""
        out, book = self.out, self.share.problem.weights
        least, zero = min(book), book[0]
        total = self.sum_of(inputs[:low], least)
        return out.add(total, self.sum_of(inputs[low:], zero)) if inputs[low:] and zero else total

    def sum_of(self, inputs: Words, factor: int) -> ir.Value:
        total: ir.Value | int = 0
        for each in inputs if factor else ():
            total = self.out.add(total, each)
        return self.out.times(total, factor) if isinstance(total, ir.Value) else self.out.word(0)

    def double(self, start: ir.Value, inputs: Words, low: int) -> None:
        """upper[u] = the sum of codes u above the low ones."""
        out, book = self.out, self.share.problem.weights
        out.store(start, "upper", 0)
        for i, value in enumerate(inputs[low:]):
            size = len(book) ** i
            steps = [out.times(value, w - book[0]) for w in book[1:]]

            def extend(j: ir.Value, _: Words, size: int = size, steps: Words = steps) -> None:
                before = out.load("upper", j)
                for code, step in enumerate(steps, 1):
                    out.store(out.add(before, step), "upper", j, code * size)

            out.loop("j", 0, size, extend, unroll=unrolled(size, 4))

    def expand(
        self, value: ir.Value, inputs: Words, path: list[tuple[int, ...]], at: ir.Value
    ) -> None:
        """The entries of all low codes, in the order of `path`."""
        out, book, words = self.out, self.share.problem.weights, self.share.schedule.words
        bits = self.share.tables.weight_bits
        steps: dict[tuple[int, int], ir.Value] = {}

        def place(codes: tuple[int, ...]) -> int:
            return sum(code << (bits * i) for i, code in enumerate(codes)) * words

        out.store(value, "table", at, place(path[0]))
        for before, after in pairwise(path):
            (i,) = (i for i in range(len(after)) if before[i] != after[i])
            step = book[after[i]] - book[before[i]]
            key = (i, abs(step))
            if key not in steps:
                steps[key] = out.times(inputs[i], abs(step))
            value = (out.add if step > 0 else out.subtract)(value, steps[key])
            out.store(value, "table", at, place(after))

    def accumulate(self, chunk: ir.Value) -> None:
        out, share, s = self.out, self.share, self.share.schedule

        def block(number: ir.Value, _: Words) -> None:
            row = out.times(number, s.row_block)
            place = out.add(out.times(chunk, share.rows), out.add(self.row, row))
            count = s.row_block * s.groups
            out.copy_in("weights", out.times(place, s.groups), "codes", 0, count, "codes of rows")
            at = out.times(row, s.sums)
            lookups = s.groups * (1 + s.words)
            unroll = unrolled(s.row_block, max(1, 32 // lookups))
            out.loop("row", 0, s.row_block, lambda r, _: self.add_row(r, at), unroll=unroll)

        out.loop("block", 0, share.rows_each // s.row_block, block)

    def add_row(self, row: ir.Value, at: ir.Value) -> None:
        """All groups of a chunk for one row, its sums in registers."""
        out, s, share = self.out, self.share.schedule, self.share
        place = out.add(at, out.times(row, s.sums))
        sums = [out.load("sums", place, each) for each in range(s.sums)]
        for first in range(0, s.groups, share.burst):
            groups = range(first, min(first + share.burst, s.groups))
            if s.lanes < 4:
                sums = self.look_up(row, groups, sums)
                continue
            bytes_ = self.look_up(row, groups, [out.word(BYTE_START)] * s.words)
            sums = [
                out.add(total, part) for total, part in zip(sums, self.halves(bytes_), strict=True)
            ]
        for each, total in enumerate(sums):
            out.store(total, "sums", place, each)

    def look_up(self, row: ir.Value, groups: range, totals: Words) -> Words:
        out, s = self.out, self.share.schedule
        size = self.share.tables.rows * s.words
        for group in groups:
            code = out.load("codes", out.times(row, s.groups), group)
            totals = [
                out.lookup(total, code, group * size, stride=s.words, displacement=word)
                for word, total in enumerate(totals)
            ]
            pim.OrderOp()
        return totals

    def halves(self, words: Words) -> Words:
        """Bytes 0 and 2, then bytes 1 and 3, of each word, as lanes of 16 bits."""
        out, made, mask = self.out, [], self.out.word(BYTE_PAIRS)
        for word in words:
            made.append(arith.andi(word, mask))
            made.append(arith.andi(arith.shrui(word, out.word(8)), mask))
        return made

    def empty_lanes(self) -> None:
        """totals[row, 2 · word + lane] += lane of sums[row, word]."""
        out, share = self.out, self.share

        def body(index: ir.Value, _: Words) -> None:
            value, sixteen = out.load("sums", index), out.word(16)
            low = arith.shrsi(out.shifted(value, 16), sixteen)
            high = arith.shrsi(out.subtract(value, low), sixteen)
            for lane, part in enumerate((low, high)):
                at = out.times(index, 2)
                out.store(out.add(out.load("totals", at, lane), part), "totals", at, lane)

        count = share.rows_each * share.schedule.sums
        out.loop("i", 0, count, body, unroll=unrolled(count, 4), note="empty lanes of 16 bits")


def walk_codes(book: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """
    All tuples of `count` codes, from the least values on; neighbours differ in one code, by one
    step of the ascending values.

    >>> walk_codes((-1, 1), 2)
    [(0, 0), (1, 0), (1, 1), (0, 1)]
    """
    ascending = sorted(range(len(book)), key=lambda code: (book[code], code))
    path: list[tuple[int, ...]] = [()]
    for _ in range(count):
        turns = product(enumerate(ascending), (path,))
        path = [
            (*before, code)
            for (i, code), known in turns
            for before in (known if i % 2 == 0 else reversed(known))
        ]
    return path

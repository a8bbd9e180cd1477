"""
Sweeps over the rows of a kernel of DPUs: what all functions of rows do (pim_row_kernel.py).

A row that WRAM holds is read once; of a longer one, each sweep reads a chunk at a time, and what a
sweep makes of the numbers goes back over them in MRAM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..dialects import pim
from ..dialects.bindings import arith, ir
from ..dialects.pim.row_functions import Norm, Softmax, whole
from .pim_fixed_point import Halfword, called, half_of, shifted_right
from .pim_writer import Words, Writer, unrolled

Carried = dict[str, ir.Value]
"""What goes from number to number, by its name in emitted code."""
Join = Callable[[ir.Value, ir.Value], ir.Value]
Sweep = Callable[[int, Carried], Words]
"""Ops on so many elements of `numbers`, and on what goes on to the next chunk."""
UNROLLED = 4
SUMMED = 128
"""Numbers of 24 bits whose sum is a word."""
SQUARED = 8
"""Squares of 28 bits whose sum is a word."""


@dataclass(frozen=True)
class RowShare:
    """
    What a DPU does: `rows`, by so many tasklets, `chunk` numbers of a row in WRAM at a time.

    Tasklets take a row each, or are `together` at one: then a chunk is the part of each, and
    chunks are whole units of DMA that make up a row.
    """

    function: Softmax | Norm
    rows: int
    tasklets: int
    chunk: int
    together: bool = False

    @property
    def streams(self) -> bool:
        return self.chunk < self.function.columns and not self.together

    @property
    def buffers(self) -> dict[str, tuple[int, str, str]]:
        """Extent, element and scope of each buffer in WRAM."""
        function, cells = self.function, sum(len(each.base) for each in self.function.tables)
        parted = self.streams or self.together
        held = self.chunk if parted else function.widths[0]
        made = {
            "base": (whole(cells, 4), "si16", "shared"),
            "slope": (whole(cells, 8), "si8", "shared"),
            "numbers": (whole(held, 2), function.kinds[0], "private"),
            "found": (whole(self.chunk, 4), function.kinds[1], "private"),
        }
        if parted and isinstance(function, Norm):
            made["ends"] = (2, function.kinds[0], "private")
        if self.together:
            made["partials"] = (2 * self.tasklets, "ui32", "shared")
        return made


@dataclass
class RowSweeps:
    """Writes sweeps over a row."""

    out: Writer
    share: RowShare
    me: ir.Value

    def begin(self, row: ir.Value) -> None:
        """Bring a row that WRAM holds, or this tasklet's part of one."""
        out, share, width = self.out, self.share, self.share.function.widths[0]
        start = out.times(row, width)
        if share.together:
            start = out.add(start, out.times(self.me, share.chunk))
            out.copy_in("inputs", start, "numbers", 0, share.chunk, "this tasklet's part of a row")
        elif not share.streams:
            out.copy_in("inputs", start, "numbers", 0, width, "a row")

    def joined(self, values: Words, join: Join) -> Words:
        """What each tasklet found of its part of a row, joined to that of the row."""
        out, tasklets, count = self.out, self.share.tasklets, len(values)
        if not self.share.together:
            return values
        for i, each in enumerate(values):
            out.store(each, "partials", out.times(self.me, count), i)
        pim.BarrierOp()
        found = [out.load("partials", i) for i in range(count)]
        for other in range(1, tasklets):
            parts = [out.load("partials", other * count + i) for i in range(count)]
            found = [join(one, part) for one, part in zip(found, parts, strict=True)]
        pim.BarrierOp()
        return found

    def sweep(
        self, row: ir.Value, body: Sweep, carried: Carried | None = None, note: str = "",
        *, changes: bool = False, ends: bool = False, join: Join = arith.addi,
    ) -> Words:  # fmt: skip
        """
        All numbers of a row; with `changes` the body replaces them, with `ends` it makes results.

        `join` makes one of what two parts of a row hand on.
        """
        share, out = self.share, self.out
        columns, (width, found_width) = share.function.columns, share.function.widths
        names, start = list(carried or {}), list((carried or {}).values())

        def part(at: ir.Value | int, count: int, values: Words) -> Words:
            first = out.add(out.times(row, width), at)
            if share.streams:
                out.copy_in("inputs", first, "numbers", 0, count)
            values = body(count, dict(zip(names, values, strict=True)))
            if changes and share.streams:
                out.copy_out("numbers", 0, "inputs", first, count)
            if ends:
                out.copy_out("found", 0, "results", out.add(out.times(row, found_width), at), count)
            return values

        if share.together:
            return self.joined(part(out.times(self.me, share.chunk), share.chunk, start), join)
        if not share.streams:
            return part(0, columns, start)

        def chunk(index: ir.Value, values: Words) -> Words:
            return part(out.times(index, share.chunk), share.chunk, values)

        chunks, rest = divmod(columns, share.chunk)
        found = out.loop("chunk", 0, chunks, chunk, carried=start, names=names, note=note)
        return part(chunks * share.chunk, rest, found) if rest else found

    def each(
        self, count: int, body: Callable[[ir.Value, Words], Words], carried: Carried, note: str = ""
    ) -> Words:
        """Elements one by one, unrolled; those that make no whole turn follow."""
        turns = count - count % UNROLLED
        values = list(carried.values())
        if turns:
            values = self.out.loop(
                "i", 0, turns, body, unroll=UNROLLED, carried=values, names=list(carried),
                note="" if self.share.streams else note,
            )  # fmt: skip
        for i in range(turns, count):
            values = body(self.out.word(i), values)
        return values

    def long_sum(
        self, count: int, size: int, term: Callable[[ir.Value], ir.Value], carried: Carried,
        note: str = "",
    ) -> Words:  # fmt: skip
        """Sums of terms in two words, 2^16 · high + low: of `size` terms a word is enough."""
        out = self.out

        def group(first: ir.Value | int, terms: int, values: Words) -> Words:
            def add(i: ir.Value, sums: Words) -> Words:
                return [out.add(sums[0], term(out.add(first, i)))]

            (total,) = out.loop(
                "i", 0, terms, add, unroll=unrolled(terms, SQUARED), carried=[out.word(0)]
            )
            high, low = values
            return [
                out.add(high, shifted_right(out, total, 16)),
                out.add(low, arith.andi(total, out.word(0xFFFF))),
            ]

        values, rest = list(carried.values()), count % size
        if count >= size:
            values = out.loop(
                "group", 0, count - rest, lambda i, values: group(i, size, values), step=size,
                carried=values, names=list(carried), note="" if self.share.streams else note,
            )  # fmt: skip
        return group(count - rest, rest, values) if rest else values

    def scaled(self, row: ir.Value, factor: ir.Value, shift: ir.Value, guard: int = 0) -> None:
        """The last sweep: results are numbers >> guard, times a factor, shifted and rounded."""
        out, note = self.out, "numbers times the factor"
        by, half = Halfword.of(out, factor, "factor_raised"), half_of(out, shift, "half")

        def one(i: ir.Value, _: Words) -> Words:
            value = called(shifted_right(out, out.load("numbers", i), guard), "value")
            product = Halfword.of(out, value).times(by, out)
            out.store(arith.shrsi(out.add(product, half), shift), "found", i)
            return []

        self.sweep(row, lambda n, _: self.each(n, one, {}, note), note=note, ends=True)

"""Short names for the ops of a kernel of DPUs, for the passes that write one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..dialects import pim
from ..dialects.bindings import arith, ir
from ..dialects.pim.dialect import mram_of, wram_of

Words = list[ir.Value]
Body = Callable[[ir.Value, Words], Words | None]


@dataclass
class Writer:
    """
    Writes ops at the insertion point. Python's integers become constants where a word is wanted.

    `arrays` and `buffers` hold the kernel's MRAM arrays and WRAM buffers by name.
    """

    arrays: dict[str, ir.Value] = field(default_factory=dict)
    buffers: dict[str, ir.Value] = field(default_factory=dict)

    def word(self, value: ir.Value | int) -> ir.Value:
        if isinstance(value, int):
            return arith.constant(ir.IntegerType.get_signless(32), value)
        return value

    def add(self, left: ir.Value | int, right: ir.Value | int) -> ir.Value:
        if isinstance(left, int) and isinstance(right, int):
            return self.word(left + right)
        if left == 0 or right == 0:
            return self.word(right if isinstance(left, int) else left)
        return arith.addi(self.word(left), self.word(right))

    def subtract(self, left: ir.Value, right: ir.Value) -> ir.Value:
        return arith.subi(left, right)

    def times(self, value: ir.Value | int, factor: int) -> ir.Value:
        """A product with a constant; a shift where it is a power of two."""
        if isinstance(value, int):
            return self.word(value * factor)
        if factor == 1:
            return value
        if factor > 0 and not factor & (factor - 1):
            return self.shifted(value, factor.bit_length() - 1)
        return arith.muli(value, self.word(factor))

    def shifted(self, value: ir.Value, by: int) -> ir.Value:
        return arith.shli(value, self.word(by)) if by else value

    def load(self, name: str, index: ir.Value | int, displacement: int = 0) -> ir.Value:
        word = ir.IntegerType.get_signless(32)
        return pim.LoadOp(self.buffers[name], self.word(index), number(displacement), word).element

    def store(
        self, value: ir.Value | int, name: str, index: ir.Value | int, displacement: int = 0
    ) -> None:
        pim.StoreOp(self.word(value), self.buffers[name], self.word(index), number(displacement))

    def lookup(
        self,
        total: ir.Value,
        code: ir.Value,
        at: ir.Value | int,
        *,
        table: str = "table",
        stride: int = 1,
        displacement: int = 0,
        reorder: tuple[str, ir.Value | int] | None = None,
    ) -> ir.Value:
        """total + table[at + code' * stride + displacement]; see pim.lookup_accumulate."""
        given = {}
        if reorder is not None:
            given = {"reorder": self.buffers[reorder[0]], "reorder_at": self.word(reorder[1])}
        return pim.LookupAccumulateOp(
            total, code, self.buffers[table], self.word(at), number(stride),
            number(displacement), total.type, **given,
        ).result  # fmt: skip

    def copy_in(
        self, source: str, offset: ir.Value | int, name: str, at: ir.Value | int, count: int,
        note: str = "",
    ) -> None:  # fmt: skip
        op = pim.CopyInOp(
            self.arrays[source], self.word(offset), self.buffers[name], self.word(at),
            number(count),
        )  # fmt: skip
        annotate(op, note)

    def copy_out(
        self, name: str, at: ir.Value | int, target: str, offset: ir.Value | int, count: int
    ) -> None:
        pim.CopyOutOp(
            self.buffers[name], self.word(at), self.arrays[target], self.word(offset),
            number(count),
        )  # fmt: skip

    def loop(
        self,
        variable: str,
        first: ir.Value | int,
        last: ir.Value | int,
        body: Body,
        *,
        step: int = 1,
        unroll: int = 1,
        carried: Sequence[ir.Value] = (),
        names: Sequence[str] = (),
        note: str = "",
    ) -> Words:
        """
        A `pim.loop` whose body is written by `body(i, carried)`, which returns what it hands on.

        A loop of one iteration is its body alone. `names` are those of what it carries, in emitted
        code.
        """
        if isinstance(first, int) and isinstance(last, int) and first + step >= last > first:
            return body(self.word(first), list(carried)) or []
        kinds = [each.type for each in carried]
        op = pim.LoopOp(
            self.word(first), self.word(last), list(carried), number(step), number(unroll),
            ir.StringAttr.get(variable), kinds,
        )  # fmt: skip
        annotate(op, note)
        if names:
            given = ir.ArrayAttr.get([ir.StringAttr.get(each) for each in names])
            op.operation.attributes["names"] = given
        block = op.body.blocks.append(ir.IntegerType.get_signless(32), *kinds)
        with ir.InsertionPoint(block):
            index, *values = block.arguments
            pim.YieldOp(body(index, list(values)) or [])
        return list(op.operation.results)


def number(value: int) -> ir.IntegerAttr:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


def annotate(op: ir.OpView, note: str) -> None:
    """A comment for the reader of the emitted code."""
    if note:
        op.operation.attributes["note"] = ir.StringAttr.get(note)


def unrolled(trips: int, most: int) -> int:
    """
    The largest divisor of `trips` up to `most`.

    >>> unrolled(48, 8), unrolled(7, 4), unrolled(5, 8)
    (8, 1, 5)
    """
    return next(each for each in range(min(most, trips), 0, -1) if trips % each == 0)


__all__ = ["Writer", "annotate", "mram_of", "number", "unrolled", "wram_of"]

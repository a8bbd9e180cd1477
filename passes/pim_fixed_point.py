"""
Fixed-point arithmetic in kernels of DPUs: cells of a table, products of halfwords, mantissas.

All of it is exact: what dialects/pim/piecewise.py and row_functions.py say of whole arrays, said of
one word.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dialects import pim
from ..dialects.bindings import arith, ir, math
from ..dialects.pim.piecewise import Cells
from .pim_writer import Writer

LOW, HIGH = "low", "high"


def called(value: ir.Value, name: str) -> ir.Value:
    """The value, with the name of its variable in emitted code."""
    owner = value.owner
    assert not isinstance(owner, ir.Block)
    owner.attributes["name"] = ir.StringAttr.get(name)
    return value


def shifted_right(out: Writer, value: ir.Value, by: ir.Value | int) -> ir.Value:
    return arith.shrui(value, out.word(by)) if by != 0 else value


def cell_value(out: Writer, cells: Cells, code: ir.Value, first: int = 0) -> ir.Value:
    """
    base[k] + (slope[k] · (code mod 2^bits) >> shift), k = first + (code >> bits).
    """
    cell = arith.shrui(code, out.word(cells.bits))
    inside = arith.andi(code, out.word((1 << cells.bits) - 1))
    product = multiplied(out.load("slope", cell, first), inside, LOW, LOW)
    if cells.shift:
        product = arith.shrsi(product, out.word(cells.shift))
    return out.add(out.load("base", cell, first), product)


def multiplied(left: ir.Value, right: ir.Value, left_byte: str, right_byte: str) -> ir.Value:
    halves = ir.StringAttr.get(left_byte), ir.StringAttr.get(right_byte)
    return pim.Mul8Op(left, right, *halves, left.type).result


@dataclass(frozen=True)
class Halfword:
    """
    A number of -32768 to 32639 as 2^8 · high + low, both signed bytes: low that of `low`, high
    the second byte of `high`.
    """

    low: ir.Value
    high: ir.Value

    @staticmethod
    def of(out: Writer, value: ir.Value, name: str = "raised") -> Halfword:
        return Halfword(value, called(out.add(value, 128), name))

    def times(self, other: Halfword, out: Writer) -> ir.Value:
        """The exact product, four of bytes."""
        cross = out.add(
            multiplied(self.high, other.low, HIGH, LOW), multiplied(self.low, other.high, LOW, HIGH)
        )
        return self._joined(out, other, out.shifted(cross, 8))

    def squared(self, out: Writer) -> ir.Value:
        return self._joined(out, self, out.shifted(multiplied(self.high, self.low, HIGH, LOW), 9))

    def _joined(self, out: Writer, other: Halfword, cross: ir.Value) -> ir.Value:
        high = out.shifted(multiplied(self.high, other.high, HIGH, HIGH), 16)
        return out.add(out.add(high, cross), multiplied(self.low, other.low, LOW, LOW))


@dataclass(frozen=True)
class Normalized:
    """A positive word: 31 - `zeros` is its highest bit, `top` the word with that bit on top."""

    zeros: ir.Value
    top: ir.Value

    @staticmethod
    def of(value: ir.Value) -> Normalized:
        zeros = called(math.ctlz(value), "zeros")
        return Normalized(zeros, arith.shli(value, zeros))

    def mantissa(self, out: Writer, bits: int) -> ir.Value:
        """The `bits` bits behind the highest."""
        return arith.andi(shifted_right(out, self.top, 31 - bits), out.word((1 << bits) - 1))

    def bit(self, out: Writer, added: int = 0) -> ir.Value:
        """The place of the highest bit, and `added`."""
        return arith.subi(out.word(31 + added), self.zeros)


def half_of(out: Writer, shift: ir.Value, name: str) -> ir.Value:
    """What rounds a shift by `shift` to nearest: half of 2^shift, 0 for no shift."""
    return called(shifted_right(out, arith.shli(out.word(1), shift), 1), name)

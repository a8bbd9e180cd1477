"""Ops on words: lookup-accumulate and the one-slot multiplication of bytes."""

from typing import Any, Optional

from ..bindings import Operand, Result, ext, ir
from .dialect import Pim, is_pim

HALVES = ("low", "high")


class LookupAccumulateOp(Pim.Operation, name="lookup_accumulate", traits=[ext.Pure]):
    """
    result = accumulator + table[at + code' * stride + displacement], modulo 2**32, where
    code' = reorder[reorder_at + code], or the code itself without a reordering slice.

    `table` is a slice of a lookup table in WRAM; `stride` are the elements of one entry.
    """

    accumulator: Operand[Any]
    code: Operand[Any]
    table: Operand[Any]
    at: Operand[Any]
    stride: ir.IntegerAttr
    displacement: ir.IntegerAttr
    result: Result[Any]
    reorder: Optional[Operand[Any]] = None
    reorder_at: Optional[Operand[Any]] = None

    def verify_invariants(self) -> bool:
        tables = [each for each in (self.table, self.reorder) if each is not None]
        if not all(is_pim(each.type, "wram") for each in tables):
            self.location.emit_error("pim.lookup_accumulate reads WRAM: load the slice first")
            return False
        if (self.reorder is None) != (self.reorder_at is None):
            self.location.emit_error("pim.lookup_accumulate: reorder and reorder_at go together")
            return False
        return True


class Mul8Op(Pim.Operation, name="mul8", traits=[ext.Pure]):
    """
    result = byte of left * byte of right, both signed: one of `__builtin_mul_s?_s?_rrr`.

    `left_byte` and `right_byte` choose the low or the high byte of the low halfword; the other
    bits do not matter.
    """

    left: Operand[Any]
    right: Operand[Any]
    left_byte: ir.StringAttr
    right_byte: ir.StringAttr
    result: Result[Any]

    def verify_invariants(self) -> bool:
        for half in (self.left_byte.value, self.right_byte.value):
            if half not in HALVES:
                self.location.emit_error(f"pim.mul8: {half!r} is no byte; low or high")
                return False
        return True

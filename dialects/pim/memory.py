"""Ops on MRAM and WRAM: buffers, DMA, slices of tables, loads and stores."""

from typing import Any

from ..bindings import Operand, Result, ext, ir
from .device import DMA_MOST, DMA_UNIT
from .dialect import Pim, element_bytes, elements, is_pim, known_element, scope_of, tensor_of
from .facts import EVERYTHING, divisor, range_of


class WramAllocOp(Pim.Operation, name="wram_alloc"):
    """
    A buffer in WRAM for the whole run, of one tasklet ("private") or of all ("shared").

    Not initialized. `symbol` is its name in emitted code.
    """

    symbol: ir.StringAttr
    buffer: Result[Any]

    def verify_invariants(self) -> bool:
        type_ = self.buffer.type
        if not is_pim(type_, "wram") or not known_element(type_):
            self.location.emit_error(f"pim.wram_alloc makes a buffer in WRAM, not {type_}")
            return False
        if scope_of(type_) not in ("private", "shared"):
            self.location.emit_error(f"pim.wram_alloc: {scope_of(type_)!r} is private or shared")
            return False
        if self.operation.parent.name != "pim.kernel":
            self.location.emit_error("pim.wram_alloc stands in the kernel itself, not in a loop")
            return False
        return True


class CopyInOp(Pim.Operation, name="copy_in"):
    """
    buffer[at + i] = source[offset + i] for i < count, of any count: `legalize-dma` makes DMA of it.

    With `padded` bytes of 8 the copy may bring elements behind the last, up to whole units.
    """

    source: Operand[Any]
    offset: Operand[Any]
    buffer: Operand[Any]
    at: Operand[Any]
    count: ir.IntegerAttr


class CopyOutOp(Pim.Operation, name="copy_out"):
    """target[offset + i] = buffer[at + i] for i < count, of any count."""

    buffer: Operand[Any]
    at: Operand[Any]
    target: Operand[Any]
    offset: Operand[Any]
    count: ir.IntegerAttr


class SliceLoadOp(Pim.Operation, name="slice_load"):
    """buffer[at + i] = table[column, i], a whole column: a slice of a lookup table."""

    table: Operand[Any]
    column: Operand[Any]
    buffer: Operand[Any]
    at: Operand[Any]

    def verify_invariants(self) -> bool:
        table, buffer = self.table.type, self.buffer.type
        if not is_pim(table, "mram") or not is_pim(buffer, "wram"):
            self.location.emit_error(f"pim.slice_load goes from MRAM to WRAM, not {table}")
            return False
        if tensor_of(table).rank != 2 or tensor_of(table).shape[1] > elements(buffer):
            self.location.emit_error(f"pim.slice_load: no column of {table} fits {buffer}")
            return False
        return True


class DmaInOp(Pim.Operation, name="dma_in"):
    """
    buffer[at + i] = source[offset + i] for i < count: `mram_read`.

    The tasklet waits. Bytes are 8 to 2048 and, like both addresses, multiples of 8.
    """

    source: Operand[Any]
    offset: Operand[Any]
    buffer: Operand[Any]
    at: Operand[Any]
    count: ir.IntegerAttr

    def verify_invariants(self) -> bool:
        return _dma_is_legal(self, self.source, self.offset)


class DmaOutOp(Pim.Operation, name="dma_out"):
    """target[offset + i] = buffer[at + i] for i < count: `mram_write`; limits as of dma_in."""

    buffer: Operand[Any]
    at: Operand[Any]
    target: Operand[Any]
    offset: Operand[Any]
    count: ir.IntegerAttr

    def verify_invariants(self) -> bool:
        return _dma_is_legal(self, self.target, self.offset)


class LoadOp(Pim.Operation, name="load", traits=[ext.Pure]):
    """
    The element buffer[index + displacement], extended to i32 as its type says.

    Not CSE'd across stores: it is marked pure for folding of unused ones only, and no pass of qcc
    merges loads.
    """

    buffer: Operand[Any]
    index: Operand[Any]
    displacement: ir.IntegerAttr
    element: Result[Any]

    def verify_invariants(self) -> bool:
        return _stays_inside(self, self.buffer, self.index, self.displacement.value, 1)


class StoreOp(Pim.Operation, name="store"):
    """buffer[index + displacement] = element, truncated to the type of the buffer."""

    element: Operand[Any]
    buffer: Operand[Any]
    index: Operand[Any]
    displacement: ir.IntegerAttr

    def verify_invariants(self) -> bool:
        return _stays_inside(self, self.buffer, self.index, self.displacement.value, 1)


def _dma_is_legal(op: Any, array: ir.Value, offset: ir.Value) -> bool:
    name, count = op.operation.name, op.count.value
    if not is_pim(array.type, "mram") or not is_pim(op.buffer.type, "wram"):
        op.location.emit_error(f"{name} joins MRAM and WRAM, not {array.type}, {op.buffer.type}")
        return False
    if tensor_of(array.type).element_type != tensor_of(op.buffer.type).element_type:
        op.location.emit_error(f"{name} changes no elements: {array.type}, {op.buffer.type}")
        return False
    width = element_bytes(array.type)
    size = count * width
    if size % DMA_UNIT or not DMA_UNIT <= size <= DMA_MOST:
        op.location.emit_error(
            f"{name}: {size} bytes; DMA moves {DMA_UNIT} to {DMA_MOST}, in multiples of "
            f"{DMA_UNIT}: pim.copy_in and legalize-dma split and pad"
        )
        return False
    for what, place in (("MRAM", offset), ("WRAM", op.at)):
        if divisor(place) * width % DMA_UNIT:
            op.location.emit_error(
                f"{name}: the address in {what} is not known to be a multiple of {DMA_UNIT} bytes"
            )
            return False
    return _stays_inside(op, array, offset, 0, count) and _stays_inside(
        op, op.buffer, op.at, 0, count
    )


def _stays_inside(op: Any, array: ir.Value, place: ir.Value, shift: int, count: int) -> bool:
    """Verifier part: an index whose range is known stays in its array."""
    known = range_of(place)
    if known == EVERYTHING or known[1] + shift + count <= elements(array.type):
        return True
    op.location.emit_error(
        f"{op.operation.name}: element {known[1] + shift + count - 1} of {array.type}, "
        f"which has {elements(array.type)}"
    )
    return False

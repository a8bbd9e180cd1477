"""
Ops on tensor memory (sm_100a): 128 lanes by 512 columns of 32 bits, in which products add up.

A row of sums is a lane, a token a column. Scales of blocks lie in it too, four bytes of a row in
a word: those of rows r, r + 32, … in neighbouring columns of lane r mod 32.
"""

from typing import Any

from ..bindings import Operand, Result, ir
from ..regions import walk
from .dialect import Tile, is_tile, note_of, tensor_of
from .operand_types import OPERAND_TYPES

LANES, COLUMNS, LEAST_COLUMNS = 128, 512, 32
ROLES = ("sums", "scales")


class TensorMemoryType(Tile.Type, name="tmem"):
    """
    A piece of tensor memory: `!tile.tmem<tensor<128x64xf32>, "sums">`.

    `role` is "sums", or "scales" of operands: bytes [rows, blocks].
    """

    tensor: ir.TypeAttr
    role: ir.StringAttr


def tensor_memory_of(tensor: ir.Type, role: str) -> ir.Type:
    return TensorMemoryType.get(ir.TypeAttr.get(tensor), ir.StringAttr.get(role))


def needed_columns(type_: ir.Type) -> int:
    """
    Columns that a piece takes: one for each token of sums, four for 128 rows and 4 scales each.

    >>> from ..context import make_context
    >>> with make_context():
    ...     [needed_columns(ir.Type.parse(f"!tile.tmem<tensor<{each}>, \\"{role}\\">"))
    ...      for each, role in (("128x64xf32", "sums"), ("256x8xui8", "scales"))]
    [64, 16]
    """
    rows, columns = tensor_of(type_).shape
    if note_of(type_) == "sums":
        return columns
    return 4 * -(-rows // LANES) * -(-columns // 4)


class TmemAllocateOp(Tile.Operation, name="tmem_allocate"):
    """
    `columns` of tensor memory of this block's, waiting until there are so many.

    A power of two from 32 to 512; `tile.tmem_release` gives them back.
    """

    columns: ir.IntegerAttr
    memory: Result[Any]

    def verify_invariants(self) -> bool:
        columns = self.columns.value
        if columns & (columns - 1) or not LEAST_COLUMNS <= columns <= COLUMNS:
            self.location.emit_error(
                f"tile.tmem_allocate: {columns} columns are no power of two from {LEAST_COLUMNS} "
                f"to {COLUMNS}"
            )
            return False
        return True


class TmemViewOp(Tile.Operation, name="tmem_view"):
    """
    The piece of an allocation that begins at `column`; `buffers` of it, one behind the other.

    Zeros, as the first product overwrites what is there. Loops take buffers in turn.
    """

    memory: Operand[Any]
    column: ir.IntegerAttr
    buffers: ir.IntegerAttr
    piece: Result[Any]

    def verify_invariants(self) -> bool:
        piece = self.piece.type
        if not is_tile(piece, "tmem") or note_of(piece) not in ROLES:
            self.location.emit_error(f"tile.tmem_view makes no {piece}")
            return False
        if note_of(piece) == "sums" and tensor_of(piece).shape[0] != LANES:
            self.location.emit_error(f"tile.tmem_view: sums of {LANES} rows, not {piece}")
            return False
        last = self.column.value + self.buffers.value * needed_columns(piece)
        most = allocated(self.memory)
        if self.column.value < 0 or last > most:
            self.location.emit_error(f"tile.tmem_view: column {last - 1} of {most} allocated")
            return False
        return True


class TmemReleaseOp(Tile.Operation, name="tmem_release"):
    """The end of an allocation: nothing reads or writes it any more."""

    memory: Operand[Any]


class PlaceOp(Tile.Operation, name="place"):
    """
    A fragment of an operand in shared memory, as products read it: rows of K, "boxes8".

    In a warp kernel it is one out of packets, the same for all warps, which share its decoding;
    what they have placed is seen after `tile.sync`.
    """

    fragment: Operand[Any]
    tile: Result[Any]


class TmemCopyOp(Tile.Operation, name="tmem_copy"):
    """Scales of operands from shared memory, order "scales", to the piece `to`."""

    source: Operand[Any]
    to: Operand[Any]
    scales: Result[Any]


class TmemLoadOp(Tile.Operation, name="tmem_load"):
    """Sums as a fragment in registers, after all products so far."""

    piece: Operand[Any]
    fragment: Result[Any]


def placed_operands(kernel: Any) -> list[tuple[Any, int]]:
    """
    Values in shared memory that a kernel makes for the tensor unit, and their bytes in a stage.

    Operands come first, as they begin at multiples of 1024.
    """
    found = []
    for op in walk(kernel):
        if op.operation.name in ("tile.place", "tile.load_scales"):
            value = op.operation.results[0]
            times = op.operation.parent.attributes["count"]
            if is_tile(value.type, "shared"):
                found.append((value, _placed_bytes(value.type) * ir.IntegerAttr(times).value))
    return sorted(found, key=lambda each: note_of(each[0].type) == "scales")


def _placed_bytes(type_: ir.Type) -> int:
    tensor = tensor_of(type_)
    rows, columns = tensor.shape
    if note_of(type_) == "scales":
        return -(-rows // LANES) * LANES * columns
    return rows * columns * OPERAND_TYPES[str(tensor.element_type)].bits // 8


def allocated(memory: Any) -> int:
    """Columns of the allocation that a value is."""
    owner: Any = memory.owner
    return owner.opview.columns.value if hasattr(owner, "opview") else owner.columns.value

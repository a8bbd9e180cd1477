"""Ops that move tiles: global to shared memory, to registers, and back."""

from collections.abc import Sequence
from typing import Any, Optional

from ..bindings import Operand, Result, ext, ir
from .dialect import Tile, element_bytes, is_tile, note_of, swizzle_period, tensor_of


class CopyOp(Tile.Operation, name="copy"):
    """
    tile[i, j, …] = source[offsets[0] / divisors[0] + i, offsets[1] / divisors[1] + j, …], zero
    outside of the source.

    Asynchronous: an emitter may start it iterations ahead of the pipeline it stands in. `cache`
    is a hint: "normal", or "evict_first" for data that is read once. f32 may be rounded to f16 or
    bf16. With `groups` = [size, padded], the columns of a tile are counted with groups of `size`
    columns padded by zeros to `padded`.
    """

    source: Operand[Any]
    offsets: Sequence[Operand[Any]]
    divisors: Any
    cache: ir.StringAttr
    tile: Result[Any]
    groups: Any = ext.attribute(default_factory=lambda: ir.DenseI64ArrayAttr.get([]))

    def verify_invariants(self) -> bool:
        source, tile = self.source.type, self.tile.type
        if not is_tile(source, "global") or not is_tile(tile, "shared"):
            self.location.emit_error(
                f"tile.copy goes from global to shared, not {source} to {tile}"
            )
            return False
        return _same_element(self, source, tile) and _swizzle_fits(self, tile)


class FetchOp(Tile.Operation, name="fetch"):
    """
    As `tile.copy`, of packets of codes, into the registers of the warps that will decode them.

    An emitter may start it as many iterations ahead as the pipeline has stages.
    """

    source: Operand[Any]
    offsets: Sequence[Operand[Any]]
    divisors: Any
    cache: ir.StringAttr
    packets: Result[Any]


class LoadOp(Tile.Operation, name="load"):
    """
    Columns of a shared tile as an operand: fragment[i, j] = tile[i mod rows, k - first + j].

    `first` is where the tile begins; without it, tiles begin at multiples of their columns. A tile
    of ui8 holds two columns of operands of 4 bits in a byte, the first one lower. `sign` is that of
    `tile.decode`.
    """

    tile: Operand[Any]
    k: Operand[Any]
    fragment: Result[Any]
    first: Optional[Operand[Any]] = None
    sign: Any = ext.attribute(default_factory=lambda: ir.StringAttr.get("all"))


class ReadOp(Tile.Operation, name="read"):
    """
    Inside `tile.map`, for element [i, j]: source[offset + i] along `axis` "n", source[offset + j]
    along "m", source[0] for "one"; zero outside.
    """

    source: Operand[Any]
    offset: Operand[Any]
    axis: ir.StringAttr
    element: Result[Any]


class StoreOp(Tile.Operation, name="store"):
    """
    target[offsets[0] + j, offsets[1] + i] = fragment[i, j] where that is inside, and from channel
    `first` on: those before it another tile has made, as sums of other shares of K.
    """

    fragment: Operand[Any]
    target: Operand[Any]
    offsets: Sequence[Operand[Any]]
    first: Optional[Operand[Any]] = None


def _same_element(op: Any, source: ir.Type, tile: ir.Type) -> bool:
    kinds = tensor_of(source).element_type, tensor_of(tile).element_type
    rounded = str(kinds[0]) == "f32" and str(kinds[1]) in ("f16", "bf16")
    if kinds[0] != kinds[1] and not rounded:
        op.location.emit_error(f"tile.copy makes no element type {kinds[1]} of {kinds[0]}")
        return False
    return True


def _swizzle_fits(op: Any, tile: ir.Type) -> bool:
    """Verifier part: rows hold as many vectors of 16 bytes as are exchanged."""
    period, tensor = swizzle_period(note_of(tile)), tensor_of(tile)
    if period > 1 and tensor.shape[1] * element_bytes(tensor.element_type) < 16 * period:
        op.location.emit_error(f"tile.copy: rows of {tensor} have no {period} vectors of 16 bytes")
        return False
    return True

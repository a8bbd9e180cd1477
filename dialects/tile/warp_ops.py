"""
Ops of kernels whose warps hold a tile each: attention, products of two activations.

The first axis of every fragment counts the warps of the block, so [4, 16, 64] are four tiles of
16 x 64. A number may differ from warp to warp if it follows from `tile.index` "warp".

Loops are `scf.for`. With the attribute `stages`, tiles made inside exist that many times, and an
emitter may fetch those of later rounds ahead: what they are fetched by must follow from the loop's
index. With `unrolled` its extents are constants, and it is written out.
"""

from typing import Any, Optional

from ..bindings import Operand, Result, ext, ir
from ..errors import QccError
from ..regions import walk
from .dialect import Tile, tensor_of
from .fragments import INSTRUCTIONS
from .hardware import machine, require_native
from .warp_memory import carried_registers, shared_need

REDUCTIONS = ("max", "add")


class WarpKernelOp(Tile.Operation, name="warp_kernel", traits=[ir.IsIsolatedFromAboveTrait]):
    """
    A function that every block of a grid runs, with `warps` warps.

    The body's arguments are tensors in global memory of rows and columns, and i32 numbers, called
    `arguments`. `writes` are the names of those that it writes.
    """

    symbol: ir.StringAttr
    target: ir.StringAttr
    warps: ir.IntegerAttr
    arguments: ir.ArrayAttr
    writes: ir.ArrayAttr
    body: ext.Region

    def verify_invariants(self) -> bool:
        block = self.body.blocks[0]
        if len(block.arguments) != len(self.arguments):
            self.location.emit_error(
                f"tile.warp_kernel: {len(self.arguments)} names for "
                f"{len(block.arguments)} arguments"
            )
            return False
        return _fits(self)


class IndexOp(Tile.Operation, name="index", traits=[ext.Pure]):
    """Which block of the grid this is along `axis`, "x", "y" or "z", or which "warp" of it."""

    axis: ir.StringAttr
    index: Result[Any]


class MultiplyOp(Tile.Operation, name="multiply", traits=[ext.Pure]):
    """
    result[w, i, j] = accumulator[w, i, j] + sum over c of a[w, i, k + c] * b[w, j, c].

    Products exact, sums fp32 in any order, or exact in i32.
    """

    a: Operand[Any]
    b: Operand[Any]
    accumulator: Operand[Any]
    k: Operand[Any]
    instruction: ir.StringAttr
    result: Result[Any]

    def verify_invariants(self) -> bool:
        record = INSTRUCTIONS.get(self.instruction.value)
        if record is None:
            self.location.emit_error(f"tile.multiply: no fragments of {self.instruction.value}")
            return False
        a, b, c = (tensor_of(each.type) for each in (self.a, self.b, self.accumulator))
        rows = 16 if record.of_warp_group else record.m  # of a warp
        uneven = a.shape[1] % rows or b.shape[1] % 16 or b.shape[2] % record.k
        kinds = str(a.element_type), str(b.element_type)
        uneven = uneven or kinds != (record.operand, record.weight_operand)
        if uneven or c.shape != [a.shape[0], a.shape[1], b.shape[1]]:
            self.location.emit_error(f"tile.multiply: {record.name} does not make {c} of {a}, {b}")
            return False
        return True


class FillOp(Tile.Operation, name="fill", traits=[ext.Pure]):
    """A fragment of one number."""

    number: ir.FloatAttr
    fragment: Result[Any]


class EachOp(Tile.Operation, name="each"):
    """
    result[w, i, j] = body at [w, i, j], or otherwise[w, i, j] where `condition` is 0.

    The body has scalar ops of arith and math, `tile.at`, `tile.position`, `tile.element` and
    `tile.scale`; numbers from outside are the same everywhere.
    """

    result: Result[Any]
    body: ext.Region
    condition: Optional[Operand[Any]] = None
    otherwise: Optional[Operand[Any]] = None


class AtOp(Tile.Operation, name="at"):
    """
    Inside `tile.each`: fragment[w, i, j] at the place of the result.

    Fragments may have fewer axes than it: "rows" one number for each i, "columns" for each j,
    "one" for each w.
    """

    fragment: Operand[Any]
    element: Result[Any]


class PositionOp(Tile.Operation, name="position", traits=[ext.Pure]):
    """Inside `tile.each`: i for `axis` "row", j for "column", both in the tile of the warp."""

    axis: ir.StringAttr
    index: Result[Any]


class ElementOp(Tile.Operation, name="element"):
    """Inside `tile.each`: the element of a view at `index`, all its rows one behind the other."""

    source: Operand[Any]
    index: Operand[Any]
    element: Result[Any]


class ScaleOp(Tile.Operation, name="scale", traits=[ext.Pure]):
    """Inside `tile.each` or `tile.map`: a stored scale as fp32; `kind` is that of ScaleDecoding."""

    stored: Operand[Any]
    kind: ir.StringAttr
    value: Result[Any]


class ReduceOp(Tile.Operation, name="reduce"):
    """
    The largest or the sum ("max", "add") of `initial` and a fragment along `axis`.

    "columns" makes "rows" of a tile, and "one" of "columns". "warps" leaves the shape: every warp
    then holds what all of them together have, added in their order.
    """

    fragment: Operand[Any]
    kind: ir.StringAttr
    axis: ir.StringAttr
    result: Result[Any]
    initial: Optional[Operand[Any]] = None

    def verify_invariants(self) -> bool:
        if self.kind.value not in REDUCTIONS or self.axis.value not in ("columns", "warps"):
            self.location.emit_error(
                f"tile.reduce has no {self.kind.value} along {self.axis.value}; it has "
                f"{', '.join(REDUCTIONS)} along columns and warps"
            )
            return False
        return True


class ConvertOp(Tile.Operation, name="convert", traits=[ext.Pure]):
    """An accumulator [w, i, k] as a left operand, rounded to its type: it stays in its lanes."""

    fragment: Operand[Any]
    result: Result[Any]


class TurnOp(Tile.Operation, name="turn", traits=[ext.Pure]):
    """result[w, i, j] = fragment[w, j, i]: an accumulator with its rows for columns."""

    fragment: Operand[Any]
    result: Result[Any]


class SyncOp(Tile.Operation, name="sync"):
    """What threads of a block have written is seen by all of them."""


def _fits(op: WarpKernelOp) -> bool:
    """Verifier part: what the target holds, and which instructions it has."""
    inside = walk(op)
    try:
        device = machine(op.target.value)
        for each in inside:
            if each.operation.name == "tile.multiply":
                require_native(device.name, each.instruction.value)
    except QccError as error:
        op.location.emit_error(f"tile.warp_kernel: {error.what}; {error.next_step}")
        return False
    threads = 32 * op.warps.value
    for what, need, most in (
        ("threads", threads, device.threads_per_block),
        ("bytes of shared memory", shared_need(op), device.shared_per_block),
        ("carried registers", carried_registers(inside) * threads, device.registers_per_processor),
    ):
        if need > most:
            op.location.emit_error(
                f"tile.warp_kernel: {need} {what} exceed the {most} of {device.name}"
            )
            return False
    return True

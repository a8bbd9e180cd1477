"""Ops that compute on fragments: decode, multiply, rescale, combine, map."""

from typing import Any, Optional

from ..bindings import Operand, Result, ext, ir
from ..errors import QccError
from ..formats import parse_spelling
from .decode_rules import decode_program
from .dialect import Tile, is_tile, tensor_of
from .fragments import INSTRUCTIONS, Instruction


class ZerosOp(Tile.Operation, name="zeros", traits=[ext.Pure]):
    """A fragment of zeros."""

    fragment: Result[Any]


class DecodeOp(Tile.Operation, name="decode", traits=[ext.Pure]):
    """
    Packets of codes, columns k mod depth …, as operands: what they mean in `format` without
    scales, less `zeros`, over the `factor` of the decode program; rounded once to the operand type.

    `zeros` has a row for each group of `group` columns from `first` on (see `tile.load`); `table`
    is that of the program, if it has one; `lower` is the lower plane of nested halves, `codes` then
    their upper one. `sign` is "all", or "positive" or
    "negative" for the part of the values above or below zero, the rest zero.
    """

    codes: Operand[Any]
    k: Operand[Any]
    format: ir.StringAttr
    sign: ir.StringAttr
    group: ir.IntegerAttr
    fragment: Result[Any]
    zeros: Optional[Operand[Any]] = None
    table: Optional[Operand[Any]] = None
    first: Optional[Operand[Any]] = None
    lower: Optional[Operand[Any]] = None

    def verify_invariants(self) -> bool:
        operand = str(tensor_of(self.fragment.type).element_type)
        try:
            decode_program(parse_spelling(self.format.value), operand)
        except QccError as error:
            self.location.emit_error(f"tile.decode: {error.what}")
            return False
        return True


class MmaOp(Tile.Operation, name="mma", traits=[ext.Pure]):
    """
    result[i, j] = accumulator[i, j] + sum over k of a[i, k] * b[j, k].

    Products exact; sums fp32 in any order, or exact in i32.
    """

    a: Operand[Any]
    b: Operand[Any]
    accumulator: Operand[Any]
    instruction: ir.StringAttr
    result: Result[Any]

    def verify_invariants(self) -> bool:
        name = self.instruction.value
        if name not in INSTRUCTIONS:
            self.location.emit_error(f"tile.mma: {name!r} has no fragments; see fragments.py")
            return False
        return _multiplies(self, INSTRUCTIONS[name])


class LoadScalesOp(Tile.Operation, name="load_scales", traits=[ext.Pure]):
    """
    Scales of blocks as an operand: fragment[i, b] is that of column k + b * block of row i.

    `side` "a": tile[group of the column, i], of weights; "b": tile[i mod rows, group], of
    activations. A group has `group` columns, of which the tile's first is in that of `first` (see
    `tile.load`); `block` is that of the instruction, and divides it. With `row`, `tile` is in
    global memory, and i counts from there. The result may be in shared memory, order "scales".
    """

    tile: Operand[Any]
    k: Operand[Any]
    side: ir.StringAttr
    group: ir.IntegerAttr
    block: ir.IntegerAttr
    fragment: Result[Any]
    first: Optional[Operand[Any]] = None
    row: Optional[Operand[Any]] = None

    def verify_invariants(self) -> bool:
        if self.side.value not in ("a", "b") or self.group.value % self.block.value:
            self.location.emit_error(
                f"tile.load_scales: no groups of {self.group.value} for blocks of "
                f"{self.block.value} on side {self.side.value!r}"
            )
            return False
        return True


class MmaScaledOp(Tile.Operation, name="mma_scaled", traits=[ext.Pure]):
    """
    result[i, j] = accumulator[i, j] + sum over k of a[i, k] * s[i, m] * b[j, k] * t[j, m]

    with m = k / block; the scales s = `a_scales` and t = `b_scales` are bytes of the type that the
    instruction multiplies by. Products exact, sums fp32 in any order.
    """

    a: Operand[Any]
    b: Operand[Any]
    a_scales: Operand[Any]
    b_scales: Operand[Any]
    accumulator: Operand[Any]
    instruction: ir.StringAttr
    result: Result[Any]

    def verify_invariants(self) -> bool:
        name = self.instruction.value
        record = INSTRUCTIONS.get(name)
        if record is None or not record.block:
            self.location.emit_error(f"tile.mma_scaled: {name!r} multiplies by no scales")
            return False
        for values, scales in ((self.a, self.a_scales), (self.b, self.b_scales)):
            rows, columns = tensor_of(values.type).shape
            if tensor_of(scales.type).shape != [rows, columns // record.block]:
                self.location.emit_error(
                    f"tile.mma_scaled: {name} wants a scale for {record.block} columns of "
                    f"{tensor_of(values.type)}, not {tensor_of(scales.type)}"
                )
                return False
        return _multiplies(self, record)


class RescaleOp(Tile.Operation, name="rescale", traits=[ext.Pure]):
    """
    result[i, j] = accumulator[i, j] + fp32(part[i, j]) * (scale[group of k, i] * factor).

    `kind` is how a stored scale becomes fp32 (ScaleDecoding); with `apply` = "divide"
    instead of "multiply" its inverse is meant. The rows of `scales` begin with the group of
    `first` (see `tile.load`).
    """

    accumulator: Operand[Any]
    part: Operand[Any]
    scales: Operand[Any]
    k: Operand[Any]
    kind: ir.StringAttr
    apply: ir.StringAttr
    group: ir.IntegerAttr
    factor: ir.FloatAttr
    result: Result[Any]
    first: Optional[Operand[Any]] = None


class CombineOp(Tile.Operation, name="combine"):
    """
    The sum of what all warps along K, and all blocks that split it, hold of a fragment.

    In a fixed order, so that results repeat. Blocks exchange through `workspace` and count
    through `arrivals`; only the last of them goes on, the others to the next tile where `tile` is
    one of several. Meaning: the sum.
    """

    fragment: Operand[Any]
    workspace: Operand[Any]
    arrivals: Operand[Any]
    result: Result[Any]
    tile: Optional[Operand[Any]] = None


class MapOp(Tile.Operation, name="map"):
    """
    result[i, j] = body(fragment[i, j]): the epilogue.

    The body has scalar ops of arith and math, `tile.read` and `tile.scale`.
    """

    fragment: Operand[Any]
    result: Result[Any]
    body: ext.Region


def _multiplies(op: MmaOp | MmaScaledOp, record: Instruction) -> bool:
    """Verifier part: whole operands of the instruction's type, as deep as one another."""
    a, b = tensor_of(op.a.type), tensor_of(op.b.type)
    sizes = zip([*a.shape, b.shape[0]], (record.m, record.k, record.n), strict=True)
    uneven = any(size % unit for size, unit in sizes)
    kinds = str(a.element_type), str(b.element_type)
    wrong = kinds != (record.weight_operand, record.operand)
    if uneven or a.shape[1] != b.shape[1] or wrong:
        op.location.emit_error(f"{op.operation.name}: {record.name} does not multiply {a} by {b}")
        return False
    placed = is_tile(op.a.type, "shared"), is_tile(op.accumulator.type, "tmem")
    if placed != (record.in_tensor_memory,) * 2:
        op.location.emit_error(
            f"{op.operation.name}: {record.name} does not add {op.a.type} to {op.accumulator.type}"
        )
        return False
    return True

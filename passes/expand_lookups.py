"""
Look-ups become linalg: rows of a table, decoded where the table is packed.

    qcc.embedding t, i : tensor    =>   t[i, :] where i is a row of t, NaN elsewhere
    qcc.embedding w, i : packed    =>   value[code of w at (i, :)] times the scale of its block

Only the rows that are asked for are decoded, in the order that the table is stored in: row after
row, or the packets of a linear layer that reads the same parameter. What decoding gives is exact,
as in dialects/formats/decoding.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dialects import qcc
from ..dialects.bindings import Operation, arith, ir, tensor
from ..dialects.errors import UnsupportedError
from ..dialects.formats import Format
from ..dialects.formats.definition import Nested, Plane
from ..dialects.formats.layout import block_columns
from ..dialects.formats.packets import (
    ORDERS,
    PACKET_COLUMNS,
    PACKET_ROWS,
    PacketOrder,
    WordPlane,
    stored_group,
    word_planes,
)
from ..dialects.formats.scales import decode_scale
from ..dialects.formats.stored import stored_specs
from ..dialects.regions import walk
from ..dialects.rounding.values import Val, constant, f32, i32, minimum, select
from ..dialects.source_line import source_line
from ..dialects.tile.group_op import PartOp
from .elementwise import dim, generic

LESS_THAN, AT_LEAST = 2, 5  # of arith.cmpi, signed
BYTE, HALF = 8, 16
HALVES = {"fp16": ir.F16Type.get, "bf16": ir.BF16Type.get}
Element = Callable[[Val, Val], ir.Value]


def expand_lookups(module: Operation, _: object = None) -> None:
    for op in walk(module):
        if isinstance(op, qcc.EmbeddingOp):
            with ir.InsertionPoint(op), op.location:
                result = _looked_up(op, _elements(op))
            op.result.replace_all_uses_with(result)
            op.operation.erase()


def _looked_up(op: qcc.EmbeddingOp, element: Element) -> ir.Value:
    indices = op.indices
    kind = ir.RankedTensorType(op.result.type).element_type
    rank = ir.RankedTensorType(indices.type).rank
    table = qcc.logical_type(op.table.type)
    rows = table.shape[0] if not table.is_dynamic_dim(0) else dim(op.table, 0)

    def body(index: ir.Value) -> ir.Value:
        if isinstance(rows, int):
            count = arith.constant(index.type, rows)
        else:
            count = arith.index_cast(index.type, rows)
        zero = arith.constant(index.type, 0)
        inside = arith.andi(arith.cmpi(AT_LEAST, index, zero), arith.cmpi(LESS_THAN, index, count))
        row = arith.index_cast(ir.IndexType.get(), arith.select(inside, index, zero))
        found = _converted(element(Val(row), Val(_loop(rank))), kind)
        return arith.select(inside, found, arith.constant(kind, float("nan")))

    dynamic = ir.ShapedType.get_dynamic_size()
    shape = [*ir.RankedTensorType(indices.type).shape, table.shape[1]]
    sizes: list[Any] = [
        dim(indices, axis) if size == dynamic else size for axis, size in enumerate(shape)
    ]
    return generic([(indices, range(rank))], (tensor.empty(sizes, kind), range(rank + 1)), body)


def _loop(axis: int) -> ir.Value:
    number = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), axis)
    return ir.Operation.create(
        "linalg.index", results=[ir.IndexType.get()], attributes={"dim": number}
    ).results[0]


def _converted(value: ir.Value, kind: ir.Type) -> ir.Value:
    if value.type == kind:
        return value
    wider = ir.FloatType(kind).width > ir.FloatType(value.type).width
    return (arith.extf if wider else arith.truncf)(kind, value)


def _elements(op: qcc.EmbeddingOp) -> Element:
    """What gives the element of the table at a row and a column."""
    if not qcc.is_packed(op.table.type):
        return lambda row, column: tensor.extract(op.table, [row.ssa, column.ssa])
    fmt, parameter = qcc.format_of(op.table), op.table.owner
    layout = qcc.layout_of(parameter.operation)  # pyright: ignore[reportAttributeAccessIssue]  # tables are parameters
    if layout not in (None, *ORDERS) or isinstance(fmt.element, Nested | Plane):
        raise UnsupportedError(
            "cuda-embedding", f"no kernel reads rows of {fmt.spelling} in the order {layout}",
            where=source_line(op.location),
            next_step="give the embedding another format, or leave it as it is",
        )  # fmt: skip
    shape = tuple(qcc.logical_type(op.table.type).shape)
    parts: dict[str, ir.Value] = {
        role: PartOp(op.table, ir.StringAttr.get(role), _part_type(*spec)).tensor
        for role, spec in stored_specs(fmt, layout, shape).items()
    }
    return _Packed(fmt, parts, shape[1], ORDERS.get(layout or "")).element


def _part_type(shape: tuple[int, ...], kind: np.dtype[Any]) -> ir.Type:
    if kind.kind == "f":
        return ir.RankedTensorType.get(shape, ir.F32Type.get())
    return ir.RankedTensorType.get(shape, ir.IntegerType.get_signless(8 * kind.itemsize))


@dataclass
class _Packed:
    """The parts of a packed table, in packets where there is an order."""

    format: Format
    parts: dict[str, ir.Value]
    columns: int
    order: PacketOrder | None

    def element(self, row: Val, column: Val) -> ir.Value:
        fmt, code = self.format, self._code(row, column)
        value = self._plain_value(code)
        size = block_columns(fmt.block_size, self.columns)[0]
        block = column // size
        if fmt.zero_point is not None:
            value = value - self._zero_point(code, row, block)
        if not fmt.block_scales:
            return value.ssa
        factors = [self._factor(scale.role, row, block) for scale in fmt.block_scales]
        if fmt.splits_signs:
            return (value * select(value.compare("gt", 0.0), factors[0], factors[1]) + 0.0).ssa
        if fmt.block_scales[0].rule == "inverse":
            return (value / factors[0]).ssa
        return (value * factors[0]).ssa

    # ---- codes

    def _code(self, row: Val, column: Val) -> Val:
        """An i32."""
        if self.order is not None:
            return self._code_of_packet(self.order, row, column)
        codes, bits = self.parts[self.format.code_part], self.format.bits
        place = column * bits
        first = place // BYTE
        word = _unsigned(codes, row, first)
        if bits > BYTE or BYTE % bits:
            last = ir.RankedTensorType(codes.type).shape[1] - 1
            word = word | (_unsigned(codes, row, minimum(first + 1, last)) << BYTE)
        return (word >> _number(place % BYTE)) & ((1 << bits) - 1)

    def _code_of_packet(self, order: PacketOrder, row: Val, column: Val) -> Val:
        size = self.format.block_size
        if isinstance(size, int):
            column = column + column // size * (stored_group(order, size) - size)
        e = order.per_register
        n, k = row % PACKET_ROWS, column % PACKET_COLUMNS
        lane = n % 8 * 4 + k % (4 * e) // e
        register = k % (8 * e) // (4 * e) + n // 8 * 2 + k // (8 * e) * 4
        packet = [row // PACKET_ROWS, column // PACKET_COLUMNS]
        code: Val | None = None
        for plane in word_planes(order, self.format.bits):
            field = self._field(plane, packet, lane, register, k % e) << plane.low
            code = field if code is None else code | field
        assert code is not None
        return code

    def _field(
        self, plane: WordPlane, packet: list[Val], lane: Val, register: Val, element: Val
    ) -> Val:
        """The bits of a code that stand in one plane."""
        e = plane.order.per_register
        word, within = register // plane.registers, register % plane.registers
        if plane.order.pairs:
            bit = (within * e + element) * plane.bits
        else:
            bit = within * plane.bits + element * (32 // e)
        at_once = plane.at_once
        place = (word // at_once * 32 + lane) * at_once + word % at_once + plane.start
        words = self.parts[self.format.code_part]
        found = Val(tensor.extract(words, [packet[0].ssa, packet[1].ssa, place.ssa]))
        return (found >> _number(bit)) & ((1 << plane.bits) - 1)

    # ---- values

    def _plain_value(self, code: Val) -> Val:
        """Before zero point and scale."""
        fmt = self.format
        if fmt.bits <= BYTE:
            return _entry(fmt.element_values(), code)
        if fmt.name not in HALVES:
            return Val(arith.bitcast(f32(), code.ssa))
        return _extended(fmt.name, arith.trunci(ir.IntegerType.get_signless(HALF), code.ssa))

    def _zero_point(self, code: Val, row: Val, block: Val) -> Val:
        """What is taken from the values of codes that have a zero point."""
        stored = self._of_block("zero_point", row, block)
        zero_point = self.format.zero_point
        read = arith.sitofp if zero_point == "int8" else arith.uitofp
        offset = Val(read(f32(), stored.ssa))
        shifted = self.format.zero_point_codes()
        return offset if shifted.all() else offset * _entry(shifted.astype(np.float32), code)

    def _factor(self, role: str, row: Val, block: Val) -> Val:
        stored, kind = self._of_block(role, row, block), self.format.scale_decoding(role).kind
        factor = stored
        if kind in HALVES:
            factor = _extended(kind, stored.ssa)
        elif kind != "fp32":
            decoded = decode_scale(kind, np.arange(256, dtype=np.uint8))
            factor = _entry(decoded, Val(arith.extui(i32(), stored.ssa)))
        level = self.format.second_level
        if level is None:
            return factor
        zero = constant(0, ir.IndexType.get())
        return factor * Val(tensor.extract(self.parts[level.role], [zero.ssa]))

    def _of_block(self, role: str, row: Val, block: Val) -> Val:
        """An element of a part that has one for each block, or one for the tensor."""
        part = self.parts[role]
        shape = ir.RankedTensorType(part.type).shape
        zero = constant(0, ir.IndexType.get())
        first, second = (block, row) if self.order is not None else (row, block)
        places = [
            zero if size == 1 else place for size, place in zip(shape, (first, second), strict=True)
        ]
        return Val(tensor.extract(part, [place.ssa for place in places]))


def _unsigned(part: ir.Value, row: Val, column: Val) -> Val:
    return Val(arith.extui(i32(), tensor.extract(part, [row.ssa, column.ssa])))


def _number(index: Val) -> Val:
    return Val(arith.index_cast(i32(), index.ssa))


def _extended(kind: str, stored: ir.Value) -> Val:
    """The 16 bits of a half as fp32."""
    return Val(arith.extf(f32(), arith.bitcast(HALVES[kind](), stored)))


def _entry(table: np.ndarray, code: Val) -> Val:
    """An entry of a table of floats, which becomes a constant of the program."""
    values = np.ascontiguousarray(table, np.float32)
    kind = ir.RankedTensorType.get(values.shape, f32())
    # The stubs have the overload for buffers only from Python 3.12 on.
    attribute = ir.DenseElementsAttr.get(values)  # pyright: ignore[reportCallIssue, reportArgumentType]
    entries = arith.constant(kind, attribute)
    return Val(tensor.extract(entries, [arith.index_cast(ir.IndexType.get(), code.ssa)]))

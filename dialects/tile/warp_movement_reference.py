"""The NumPy meaning of the ops that move the tiles of warps (warp_movement.py)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..bindings import ir
from ..formats import parse_spelling
from ..formats.packets import LANES, PACKET_ROWS, pack_packets, unpack_packets
from .attention_problem import KEYS
from .decode_rules import decode_program
from .dialect import note_of, tensor_of
from .operand_types import OPERAND_TYPES
from .reference import DTYPES
from .warp_block import Array, Block, rounded, shape_of, whole_shape


def _rows(block: Block, op: Any) -> Array:
    source, kind = block.get(op.source), str(tensor_of(op.tile.type).element_type)
    first, column, count = (int(block.get(v)) for v in (op.first, op.column, op.count))
    rows, columns = shape_of(op.tile.type)
    tile = np.zeros((rows, columns), source.dtype)
    j = np.arange(columns)
    if size := list(ir.DenseI64ArrayAttr(op.pieces)):
        j = j // size[0] * size[1] + j % size[0]
    j = (column + j)[column + j < source.shape[1]]
    part = source[first : first + max(0, min(rows, count))][:, j]
    tile[: part.shape[0], : part.shape[1]] = part
    return tile if str(tensor_of(op.source.type).element_type) == kind else rounded(tile, kind)


def _window(source: Array, row: int, column: int, shape: tuple[int, ...], limit: int) -> Array:
    window = np.zeros(shape, np.float64)
    part = source[row : min(row + shape[0], limit), column : column + shape[1]]
    window[: part.shape[0], : part.shape[1]] = part
    return window


def _pick(block: Block, op: Any) -> Array:
    source, shape = block.get(op.source), whole_shape(op.fragment.type)
    role, kind = note_of(op.fragment.type), str(tensor_of(op.fragment.type).element_type)
    numbers = (block.number(v) for v in (op.row, op.column, op.limit))
    places = zip(*numbers, strict=True)
    found = np.stack([_window(source, r, c, shape[1:], end) for r, c, end in places])
    return rounded(found, kind) if role == "a" else found.astype(DTYPES[kind])


def _operand(block: Block, op: Any) -> Array:
    tile, (_, rows, columns) = operand_columns(block, op), shape_of(op.fragment.type)
    if op.order.value == "transposed":
        tile, rows, columns = tile, columns, rows
    first = block.number(op.column) * (tile.shape[1] // block.get(op.tile).shape[1])
    found = [
        tile[r : r + rows, c : c + columns]
        for r, c in zip(block.number(op.row), first, strict=True)
    ]
    stacked = np.stack(found).astype(np.float64)
    return stacked.swapaxes(1, 2) if op.order.value == "transposed" else stacked


def operand_columns(block: Block, op: Any) -> Array:
    """The tile of an op with a column for each element of its operand, which may be half a byte."""
    tile, operand = block.get(op.tile), str(tensor_of(op.fragment.type).element_type)
    if OPERAND_TYPES[operand].bits != 4:
        return tile
    return OPERAND_TYPES[operand].split(tile.view("<u4")).reshape(len(tile), -1)


def _unpack(block: Block, op: Any) -> Array:
    _, rows, columns = shape_of(op.fragment.type)
    fmt = parse_spelling(op.format.value)
    program = decode_program(fmt, str(tensor_of(op.fragment.type).element_type))
    first, k, strip = (block.number(v) for v in (op.first, op.k, op.strip))
    found = []
    for w in range(block.warps):
        packets = _packets(block, op, int(first[w]), fmt.bits, rows)
        if op.strips.value == "columns":
            packets = packets[int(strip[w]) :]
        codes = unpack_packets(program.order, packets, fmt.bits, rows, int(k[w]) + columns)
        found.append(codes[:, int(k[w]) :])
    codes = np.stack(found)
    values = fmt.element_values().astype(np.float64)[codes]
    if op.zeros is not None:
        values = values - fmt.zero_point_codes()[codes] * _zeros(block, op, first, rows, columns)
    half = {"all": values, "positive": np.maximum(values, 0), "negative": np.minimum(values, 0)}
    return program.operand.rounded(half[op.sign.value] / program.factor)


def _packets(block: Block, op: Any, first: int, bits: int, rows: int) -> Array:
    """The packets [strips, columns / 64, words] that a fragment is in."""
    tile = block.get(op.tile)
    if op.strips.value == "columns":
        return tile[first].reshape(-1, 1, LANES * bits)
    return tile[first : first + rows // 16].reshape(rows // 16, -1, LANES * bits)


def _zeros(block: Block, op: Any, first: Array, rows: int, columns: int) -> Array:
    tile, column = block.get(op.zeros).astype(np.float64), block.number(op.zero_column)
    if op.zero_along.value == "row":
        tile = tile.T
    size, unit = (rows, 16) if op.strips.value == "rows" else (columns, 64)
    taken = np.stack(
        [tile[unit * f : unit * f + size, c] for f, c in zip(first, column, strict=True)]
    )
    return taken[:, :, None] if op.strips.value == "rows" else taken[:, None, :]


def _columns(block: Block, op: Any) -> Array:
    tile, count = block.get(op.tile), shape_of(op.vector.type)[1]
    places = zip(block.number(op.row), block.number(op.column), strict=True)
    if op.along.value == "row":
        return np.stack([tile[r, c : c + count] for r, c in places])[:, None, :]
    return np.stack([tile[r : r + count, c] for r, c in places])[:, None, :]


def _save(block: Block, op: Any) -> None:
    target, value = block.get(op.target), block.get(op.fragment)
    numbers = (block.number(v) for v in (op.row, op.column, op.limit))
    for tile, row, column, limit in zip(value, *numbers, strict=True):
        part = target[
            row : max(row, min(row + tile.shape[0], limit)), column : column + tile.shape[1]
        ]
        part[:] = tile[: part.shape[0], : part.shape[1]]


def _move(block: Block, op: Any) -> None:
    source, target = block.get(op.source), block.get(op.target)
    first, to, count = (int(block.get(v)) for v in (op.first, op.to, op.count))
    rows = source[first : first + count]
    if op.flags is not None:
        rows = rows.astype(np.float32) + block.get(op.flags)[to : to + count]
    target[to : to + count] = rows.astype(target.dtype)


def _repack(block: Block, op: Any) -> None:
    fmt = parse_spelling(op.format.value)
    order = decode_program(fmt, op.operand.value).order
    first, begin, end, row, flag_row = (
        int(block.get(v)) for v in (op.first, op.begin, op.end, op.row, op.flag_row)
    )
    depth, target = op.depth.value, block.get(op.target)
    by_row = op.strips.value == "rows"
    height = KEYS // PACKET_ROWS if by_row else 1
    packets = target[row : row + height].reshape(height, -1, LANES * fmt.bits)
    packets = packets if by_row else packets.swapaxes(0, 1)
    shape = (KEYS, depth) if by_row else (depth, KEYS)
    codes = unpack_packets(order, packets, fmt.bits, *shape)
    codes = codes if by_row else codes.T
    given = block.get(op.source)[first : first + end - begin]
    finite = block.get(op.flags)[flag_row + begin : flag_row + end] == 0
    codes[begin:end] = np.where(finite, given, 0)
    packed = pack_packets(order, np.ascontiguousarray(codes if by_row else codes.T), fmt.bits)
    packed = packed if by_row else packed.swapaxes(0, 1)
    target[row : row + height] = packed.reshape(height, -1)


MOVEMENT: dict[str, Callable[[Block, Any], Any]] = {
    "tile.view": lambda block, op: block.get(op.source)[: block.get(op.rows)],
    "tile.rows": _rows,
    "tile.pick": _pick,
    "tile.operand": _operand,
    "tile.unpack": _unpack,
    "tile.place": lambda block, op: rounded(
        block.get(op.fragment)[0], str(tensor_of(op.tile.type).element_type)
    ),
    "tile.columns": _columns,
    "tile.save": _save,
    "tile.move": _move,
    "tile.repack": _repack,
}

"""
The NumPy meaning of warp kernels: run block by block, the tiles of all warps at once.

It knows nothing of lanes, stages or decode programs, and so is the oracle of what an emitter makes
of a kernel. Sums are those of float64, rounded to fp32 after each op; operands are rounded once.

Every fragment is an array of three axes, those that its role lacks of length 1, and a number that
differs from warp to warp has shape [warps, 1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bindings import arith, ir
from ..formats import parse_spelling
from ..formats.packets import LANES, PACKET_ROWS, pack_packets, unpack_packets
from ..formats.scales import decode_scale
from .attention_problem import KEYS
from .decode_rules import decode_program
from .dialect import note_of, tensor_of
from .operand_types import OPERAND_TYPES
from .reference import DTYPES
from .warp_launch import argument_names

Array = NDArray[Any]


def run_warps(kernel: Any, arguments: Mapping[str, Any], grid: tuple[int, int, int]) -> None:
    """Run a `tile.warp_kernel` on arrays by the names of its arguments; it writes into them."""
    body = kernel.body.blocks[0]
    given = {}
    for name, argument in zip(argument_names(kernel), body.arguments, strict=True):
        value = arguments[name]
        if isinstance(value, np.ndarray):
            value = value.reshape(-1, tensor_of(argument.type).shape[1])
        given[argument] = value
    for z, y, x in product(*(range(count) for count in grid[::-1])):
        place = {"x": x, "y": y, "z": z, "warp": np.arange(kernel.warps.value)[:, None, None]}
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            _Block(kernel.warps.value, place, dict(given)).run(body)


@dataclass
class _Block:
    warps: int
    place: dict[str, Any]
    values: dict[Any, Any] = field(default_factory=dict)
    tile: tuple[int, ...] = ()

    def run(self, block: Any) -> list[Any]:
        for op in block.operations:
            name = op.operation.name
            if name in ("tile.yield", "scf.yield", "tile.return"):
                return [self.values[value] for value in op.operation.operands]
            made = MEANINGS[name](self, op)
            results = list(op.operation.results)
            made = made if isinstance(made, list) else [made] * len(results)
            self.values.update(zip(results, made, strict=True))
        return []

    def get(self, value: Any) -> Any:
        return self.values[value]

    def number(self, value: Any) -> Array:
        """A number of each warp [warps]."""
        return np.broadcast_to(np.asarray(self.values[value]).reshape(-1), (self.warps,))


def _shape(type_: ir.Type) -> tuple[int, ...]:
    return tuple(tensor_of(type_).shape)


def _whole(type_: ir.Type) -> tuple[int, int, int]:
    """The three axes of a fragment."""
    warps, *rest = _shape(type_)
    rows, columns = {"one": (1, 1), "rows": (*rest, 1), "columns": (1, *rest)}.get(
        note_of(type_), tuple(rest)
    )
    return warps, rows, columns


def _rounded(values: Array, kind: str) -> Array:
    """What an operand of this type holds of fp32 values."""
    return np.asarray(OPERAND_TYPES[kind].rounded(values.astype(np.float64)))


def _rows(block: _Block, op: Any) -> Array:
    source, kind = block.get(op.source), str(tensor_of(op.tile.type).element_type)
    first, column, count = (int(block.get(v)) for v in (op.first, op.column, op.count))
    rows, columns = _shape(op.tile.type)
    tile = np.zeros((rows, columns), source.dtype)
    part = source[first : first + max(0, min(rows, count)), column : column + columns]
    tile[: part.shape[0], : part.shape[1]] = part
    return tile if str(tensor_of(op.source.type).element_type) == kind else _rounded(tile, kind)


def _patches(block: _Block, op: Any) -> Array:
    w = {name: list(ir.DenseI64ArrayAttr(op.window[name])) for name in WINDOW_LISTS}
    n = {name: ir.IntegerAttr(op.window[name]).value for name in WINDOW_NUMBERS}
    first, count, k, first_channel, height, width, out_height, out_width = (
        int(block.get(v)) for v in list(op.operation.operands)[1:]
    )
    rows, columns = _shape(op.tile.type)
    pitch = -(-width // n["row_multiple"]) * n["row_multiple"]
    images = block.get(op.source).reshape(
        -1, n["all_channels"] // n["block"], height, pitch, n["block"]
    )
    pixel, stored = first + np.arange(rows)[:, None], k + np.arange(columns)[None]
    at, valid = stored, (stored < n["k"]) & (np.arange(rows)[:, None] < count)
    if w["groups"]:
        size, padded = w["groups"]
        at, valid = stored // padded * size + stored % padded, valid & (stored % padded < size)
    taps = w["taps"][0] * w["taps"][1]
    tap, channel = divmod(at, n["channels"]) if n["by_tap"] else divmod(at, taps)[::-1]
    image, rest = divmod(pixel, out_height * out_width)
    y = (
        rest // out_width * w["stride"][0]
        - w["padding"][0]
        + tap // w["taps"][1] * w["dilation"][0]
    )
    x = rest % out_width * w["stride"][1] - w["padding"][1]
    x = x + tap % w["taps"][1] * w["dilation"][1]
    valid = valid & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    index = [np.where(valid, v, 0) for v in (image, first_channel + channel, y, x)]
    image, channel, y, x = index
    found = images[image, channel // n["block"], y, x, channel % n["block"]]
    tile = np.where(valid, found, np.zeros((), images.dtype))
    kind = str(tensor_of(op.tile.type).element_type)
    return tile if str(tensor_of(op.source.type).element_type) == kind else _rounded(tile, kind)


def _save_image(block: _Block, op: Any) -> None:
    size, all_ = op.block.value, op.all_channels.value
    pixels, target = int(block.get(op.pixels)), block.get(op.target)
    images = target.reshape(-1, all_ // size, pixels, size)
    numbers = (block.number(v) for v in (op.row, op.limit, op.column, op.channels))
    for tile, row, limit, column, channels in zip(block.get(op.fragment), *numbers, strict=True):
        held = tile[: max(0, limit - row), : max(0, channels)]
        pixel = row + np.arange(held.shape[0])[:, None]
        channel = column + np.arange(held.shape[1])[None]
        images[pixel // pixels, channel // size, pixel % pixels, channel % size] = held


WINDOW_LISTS = ("taps", "stride", "padding", "dilation", "groups")
WINDOW_NUMBERS = ("channels", "all_channels", "block", "by_tap", "k", "row_multiple")


def _window(source: Array, row: int, column: int, shape: tuple[int, ...], limit: int) -> Array:
    window = np.zeros(shape, np.float64)
    part = source[row : min(row + shape[0], limit), column : column + shape[1]]
    window[: part.shape[0], : part.shape[1]] = part
    return window


def _pick(block: _Block, op: Any) -> Array:
    source, shape = block.get(op.source), _whole(op.fragment.type)
    role, kind = note_of(op.fragment.type), str(tensor_of(op.fragment.type).element_type)
    numbers = (block.number(v) for v in (op.row, op.column, op.limit))
    places = zip(*numbers, strict=True)
    found = np.stack([_window(source, r, c, shape[1:], end) for r, c, end in places])
    return _rounded(found, kind) if role == "a" else found.astype(DTYPES[kind])


def _operand(block: _Block, op: Any) -> Array:
    tile, (_, rows, columns) = block.get(op.tile), _shape(op.fragment.type)
    if op.order.value == "transposed":
        tile, rows, columns = tile, columns, rows
    found = [
        tile[r : r + rows, c : c + columns]
        for r, c in zip(block.number(op.row), block.number(op.column), strict=True)
    ]
    stacked = np.stack(found).astype(np.float64)
    return stacked.swapaxes(1, 2) if op.order.value == "transposed" else stacked


def _unpack(block: _Block, op: Any) -> Array:
    _, rows, columns = _shape(op.fragment.type)
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


def _packets(block: _Block, op: Any, first: int, bits: int, rows: int) -> Array:
    """The packets [strips, columns / 64, words] that a fragment is in."""
    tile = block.get(op.tile)
    if op.strips.value == "columns":
        return tile[first].reshape(-1, 1, LANES * bits)
    return tile[first : first + rows // 16].reshape(rows // 16, -1, LANES * bits)


def _zeros(block: _Block, op: Any, first: Array, rows: int, columns: int) -> Array:
    tile, column = block.get(op.zeros).astype(np.float64), block.number(op.zero_column)
    if op.zero_along.value == "row":
        tile = tile.T
    size, unit = (rows, 16) if op.strips.value == "rows" else (columns, 64)
    taken = np.stack(
        [tile[unit * f : unit * f + size, c] for f, c in zip(first, column, strict=True)]
    )
    return taken[:, :, None] if op.strips.value == "rows" else taken[:, None, :]


def _columns(block: _Block, op: Any) -> Array:
    tile, count = block.get(op.tile), _shape(op.vector.type)[1]
    places = zip(block.number(op.row), block.number(op.column), strict=True)
    if op.along.value == "row":
        return np.stack([tile[r, c : c + count] for r, c in places])[:, None, :]
    return np.stack([tile[r : r + count, c] for r, c in places])[:, None, :]


def _multiply(block: _Block, op: Any) -> Array:
    a, b, total = (block.get(v) for v in (op.a, op.b, op.accumulator))
    k = int(block.get(op.k))
    part = a[:, :, k : k + b.shape[2]] @ b.swapaxes(1, 2)
    return (total + part).astype(total.dtype)


def _fill(_: _Block, op: Any) -> Array:
    kind = DTYPES[str(tensor_of(op.fragment.type).element_type)]
    return np.full(_whole(op.fragment.type), ir.FloatAttr(op.number).value, kind)


def _each(block: _Block, op: Any) -> Array:
    block.tile = _whole(op.result.type)
    kind = str(tensor_of(op.result.type).element_type)
    (value,) = block.run(op.body.blocks[0])
    integer = np.int64 if kind in ("index", "i64") else None
    value = np.broadcast_to(value, block.tile).astype(integer or DTYPES[kind])
    if op.condition is None:
        return value
    return np.where(block.get(op.condition), value, block.get(op.otherwise))


def _position(block: _Block, op: Any) -> Array:
    _, rows, columns = block.tile
    return np.arange(rows)[:, None] if op.axis.value == "row" else np.arange(columns)[None]


def _element(block: _Block, op: Any) -> Array:
    return block.get(op.source).reshape(-1)[block.get(op.index)]


def _reduce(block: _Block, op: Any) -> Array:
    value = block.get(op.fragment)
    initial = None if op.initial is None else block.get(op.initial)
    if op.axis.value == "warps":
        found = value[:1].astype(np.float32)
        for other in value[1:]:
            found = np.fmax(found, other) if op.kind.value == "max" else found + other
        return np.broadcast_to(found, value.shape).copy()
    if op.kind.value == "max":
        found = np.fmax.reduce(value, axis=-1, keepdims=True)
        return found if initial is None else np.fmax(found, initial)
    found = value.astype(np.float64).sum(axis=-1, keepdims=True)
    return (found if initial is None else found + initial).astype(np.float32)


def _for(block: _Block, op: Any) -> list[Any]:
    k, *arguments = op.body.arguments
    carried = [block.get(v) for v in op.initArgs]
    bounds = (int(block.get(v)) for v in (op.lowerBound, op.upperBound, op.step))
    for at in range(*bounds):
        block.values[k] = at
        block.values.update(zip(arguments, carried, strict=True))
        carried = block.run(op.body)
    return carried


def _save(block: _Block, op: Any) -> None:
    target, value = block.get(op.target), block.get(op.fragment)
    numbers = (block.number(v) for v in (op.row, op.column, op.limit))
    for tile, row, column, limit in zip(value, *numbers, strict=True):
        part = target[
            row : max(row, min(row + tile.shape[0], limit)), column : column + tile.shape[1]
        ]
        part[:] = tile[: part.shape[0], : part.shape[1]]


def _move(block: _Block, op: Any) -> None:
    source, target = block.get(op.source), block.get(op.target)
    first, to, count = (int(block.get(v)) for v in (op.first, op.to, op.count))
    rows = source[first : first + count]
    if op.flags is not None:
        rows = rows.astype(np.float32) + block.get(op.flags)[to : to + count]
    target[to : to + count] = rows.astype(target.dtype)


def _repack(block: _Block, op: Any) -> None:
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


def _constant(_: _Block, op: Any) -> Any:
    value = op.operation.attributes["value"]
    if isinstance(value, ir.FloatAttr):
        return np.float32(value.value)
    return ir.IntegerAttr(value).value


def _compare(block: _Block, op: Any) -> Any:
    predicate = ir.IntegerAttr(op.operation.attributes["predicate"]).value
    return COMPARISONS[op.operation.name][predicate](*_given(block, op))


def _given(block: _Block, op: Any) -> list[Any]:
    return [block.get(v) for v in op.operation.operands]


def _scalar(operation: Callable[..., Any]) -> Callable[[_Block, Any], Any]:
    return lambda block, op: operation(*_given(block, op))


def _truncated(block: _Block, op: Any) -> Array:
    (value,) = _given(block, op)
    return value.astype(DTYPES[str(op.operation.results[0].type)])


P, F = arith.CmpIPredicate, arith.CmpFPredicate
COMPARISONS: dict[str, dict[int, Callable[..., Any]]] = {
    "arith.cmpi": {
        int(P.eq): np.equal, int(P.ne): np.not_equal, int(P.slt): np.less,
        int(P.sle): np.less_equal, int(P.sgt): np.greater, int(P.sge): np.greater_equal,
    },
    "arith.cmpf": {int(F.OEQ): np.equal, int(F.OLT): np.less, int(F.OGT): np.greater,
                   int(F.OGE): np.greater_equal},
}  # fmt: skip


def _scale(block: _Block, op: Any) -> Array:
    return decode_scale(op.kind.value, block.get(op.stored))


def _fma(a: Array, b: Array, c: Array) -> Array:
    return (np.asarray(a, np.float64) * b + c).astype(np.float32)


MEANINGS: dict[str, Callable[[_Block, Any], Any]] = {
    "tile.index": lambda block, op: block.place[op.axis.value],
    "tile.view": lambda block, op: block.get(op.source)[: block.get(op.rows)],
    "tile.rows": _rows,
    "tile.patches": _patches,
    "tile.save_image": _save_image,
    "tile.pick": _pick,
    "tile.operand": _operand,
    "tile.unpack": _unpack,
    "tile.columns": _columns,
    "tile.multiply": _multiply,
    "tile.fill": _fill,
    "tile.each": _each,
    "tile.at": lambda block, op: block.get(op.fragment),
    "tile.position": _position,
    "tile.element": _element,
    "tile.scale": _scale,
    "tile.reduce": _reduce,
    "tile.convert": lambda block, op: _rounded(
        block.get(op.fragment), str(tensor_of(op.result.type).element_type)
    ),
    "tile.save": _save,
    "tile.move": _move,
    "tile.repack": _repack,
    "tile.sync": lambda block, op: None,
    "scf.for": _for,
    "arith.constant": _constant,
    "arith.cmpi": _compare,
    "arith.cmpf": _compare,
    "arith.addi": _scalar(np.add),
    "arith.subi": _scalar(np.subtract),
    "arith.muli": _scalar(np.multiply),
    "arith.divsi": _scalar(np.floor_divide),
    "arith.remsi": _scalar(np.remainder),
    "arith.minsi": _scalar(np.minimum),
    "arith.maxsi": _scalar(np.maximum),
    "arith.ori": _scalar(np.logical_or),
    "arith.andi": _scalar(np.logical_and),
    "arith.index_cast": _scalar(lambda value: value),
    "arith.select": _scalar(np.where),
    "arith.addf": _scalar(np.add),
    "arith.subf": _scalar(np.subtract),
    "arith.mulf": _scalar(np.multiply),
    "arith.divf": _scalar(np.divide),
    "arith.maxnumf": _scalar(np.fmax),
    "arith.minnumf": _scalar(np.fmin),
    "arith.negf": _scalar(np.negative),
    "arith.extf": _scalar(lambda value: value.astype(np.float32)),
    "arith.truncf": _truncated,
    "arith.sitofp": _scalar(lambda value: value.astype(np.float32)),
    "math.roundeven": _scalar(np.rint),
    "arith.fptosi": _truncated,
    "math.exp2": _scalar(np.exp2),
    "math.fma": _scalar(_fma),
}
"""What each op makes of a block's values. Counts are never negative where they are divided."""

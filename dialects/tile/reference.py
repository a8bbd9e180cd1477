"""
The NumPy meaning of tile ops: a kernel run block by block, on whole tiles.

It knows nothing of lanes, warps, stages or decode programs, and so is the oracle of what an
emitter makes of a kernel. Sums are those of float64, rounded to the accumulator after each op.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..bindings import ir
from ..formats import parse_spelling
from ..formats.nested import merge_planes
from ..formats.packets import PACKET_COLUMNS, PACKET_ROWS, PLANE_ORDERS, unpack_packets
from ..formats.scales import decode_scale
from .block_work import Units, tile_place
from .decode_rules import decode_program
from .dialect import tensor_of
from .fragments import INSTRUCTIONS
from .operand_types import OPERAND_TYPES
from .schedule import Schedule

Array = NDArray[Any]
DTYPES: dict[str, Any] = {
    "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "i8": np.int8,
    "i32": np.int32, "ui32": np.uint32, "ui16": np.uint16, "ui8": np.uint8, "si8": np.int8,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn,
}  # fmt: skip


def run_kernel(kernel: Any, arguments: Mapping[str, Any], grid: tuple[int, int, int]) -> None:
    """Run a `tile.kernel` on arrays by the names of its arguments; it writes into them."""
    names = [ir.StringAttr(name).value for name in kernel.arguments]
    body = kernel.body.blocks[0]
    given = {}
    for name, argument in zip(names, body.arguments, strict=True):
        value = arguments[name]
        given[argument] = _shaped(argument.type, value) if isinstance(value, np.ndarray) else value
    for y in range(grid[1]):
        for x in range(grid[0]):
            _Block(Schedule.of(kernel.schedule), (x, y), grid, dict(given)).run(body)


def _shaped(type_: ir.Type, value: Array) -> Array:
    tensor = tensor_of(type_)
    static = all(extent >= 0 for extent in tensor.shape)
    return value.reshape(tensor.shape) if static else value


@dataclass
class _Block:
    """
    One block of all that share K; `split` is the one that runs.

    A persistent block knows the `columns` of tiles of tokens and the `units` that all blocks share.
    """

    schedule: Schedule
    place: tuple[int, int]
    grid: tuple[int, int, int]
    values: dict[Any, Any] = field(default_factory=dict)
    split: int = 0
    columns: int = 0
    strips: int = 0
    units: Units = field(default_factory=lambda: Units(1, 1))

    def run(self, block: Any) -> list[Any]:
        """Run a region's block; what it yields, nothing where others go on."""
        for op in block.operations:
            name = op.operation.name
            if name in ("tile.yield", "tile.return", "scf.yield"):
                return [self.values[value] for value in op.operation.operands]
            if name == "tile.combine":
                if not self.combine(block, op):
                    return []
                continue
            self.do(op)
        return []

    def do(self, op: Any) -> None:
        made = MEANINGS[op.operation.name](self, op)
        self.values.update(zip(op.operation.results, _listed(made), strict=True))

    def combine(self, block: Any, op: Any) -> bool:
        """
        Each share by itself, then their sum in order.

        The first of the blocks that share a tile does this for all, and goes on.
        """
        others = self.others(op)
        if others is None:
            return False
        parts = [self.values[op.fragment]]
        for other in others:
            for each in block.operations:
                if each.operation.name == "tile.combine":
                    break
                other.do(each)
            parts.append(other.values[op.fragment])
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        self.values[op.result] = total
        return True

    def others(self, op: Any) -> list[_Block] | None:
        """The blocks behind this one that add to its tile; None where another one is before it."""
        if not self.schedule.stream_k:
            splits = range(1, self.grid[2])
            return [replace(self, values=dict(self.values), split=split) for split in splits]
        steps = self.units.units // (self.columns * self.strips)
        first = steps * self.get(op.tile)
        blocks = [self.units.block_of(unit) for unit in (first, first + steps - 1)]
        if blocks[0] != self.place[0]:
            return None
        return [
            replace(self, values=dict(self.values), place=(block, 0))
            for block in range(blocks[0] + 1, blocks[1] + 1)
        ]

    def get(self, value: Any) -> Any:
        return self.values[value]


def _listed(made: Any) -> list[Any]:
    return list(made) if isinstance(made, tuple) else [] if made is None else [made]


def _dtype(type_: ir.Type) -> Any:
    return DTYPES[str(tensor_of(type_).element_type)]


def _tiles(block: _Block, op: Any) -> tuple[int, int, int]:
    s, steps = block.schedule, op.steps.value
    block.columns = -(-block.get(op.tokens) // s.tokens)
    block.strips = -(-op.channels.value // s.channels)
    tiles, (number, _) = block.columns * block.strips, block.place
    if not s.stream_k:
        return number, tiles, block.grid[0]
    block.units = Units(tiles * steps, block.grid[0])
    first, end = block.units.first(number), block.units.first(number + 1)
    return first // steps, -(-end // steps), 1


def _for(block: _Block, op: Any) -> None:
    first, last, stride = (block.get(value) for value in list(op.operation.operands)[:3])
    for tile in range(first, last, stride):
        block.values[op.induction_variable] = tile
        block.run(op.body)


def _offset(block: _Block, op: Any) -> int:
    s, (x, y) = block.schedule, block.place
    columns, strips = block.columns or block.grid[0], block.strips or block.grid[1]
    tile = y * columns + x if op.tile is None else block.get(op.tile)
    column, strip = tile_place(tile, columns, strips, s.raster)
    return min(strip * s.channels if op.axis.value == "n" else column * s.tokens, op.most.value)


def _range(block: _Block, op: Any) -> tuple[int, int]:
    extent, step = op.extent.value, op.step.value
    steps = -(-extent // step)
    if block.schedule.stream_k:
        ends = (block.units.first(block.place[0] + each) for each in (0, 1))
        first, last = (min(max(end - steps * block.get(op.tile), 0), steps) for end in ends)
        return first * step, min(last * step, extent)
    splits = block.grid[2]
    first, last = (steps * (block.split + each) // splits * step for each in (0, 1))
    return first, min(last, extent)


def _zeros(_: _Block, op: Any) -> Array:
    return np.zeros(tensor_of(op.fragment.type).shape, _dtype(op.fragment.type))


def _pipeline(block: _Block, op: Any) -> Array:
    places = range(block.get(op.first), block.get(op.last), op.step.value)
    return _repeated(block, op, places, block.get(op.initial))


def _steps(block: _Block, op: Any) -> Array:
    start, step = block.get(op.start), op.step.value
    places = range(start, start + step * op.count.value, step)
    return _repeated(block, op, places, block.get(op.initial))


def _repeated(block: _Block, op: Any, places: range, carried: Array) -> Array:
    body = op.body.blocks[0]
    for k in places:
        block.values[body.arguments[0]], block.values[body.arguments[1]] = k, carried
        (carried,) = block.run(body)
    return carried


def _copy(block: _Block, op: Any) -> Array:
    source = block.get(op.source)
    shape = tensor_of(op.tile.type).shape
    tile = np.zeros(shape, _dtype(op.tile.type))
    source = _padded(source, list(ir.DenseI64ArrayAttr(op.groups)))
    return _window(block, op, source, tile)


def _fetch(block: _Block, op: Any) -> Array:
    shape = tensor_of(op.packets.type).shape
    return _window(block, op, block.get(op.source), np.zeros(shape, np.uint32))


def _window(block: _Block, op: Any, source: Array, tile: Array) -> Array:
    """The part of the source that a tile covers."""
    shape = tile.shape
    divisors = list(ir.DenseI64ArrayAttr(op.divisors))
    starts = [block.get(v) // by for v, by in zip(op.offsets, divisors, strict=True)]
    starts += [0] * (len(shape) - len(starts))
    part = source[tuple(slice(s, s + n) for s, n in zip(starts, shape, strict=True))]
    tile[tuple(slice(0, n) for n in part.shape)] = part
    return tile


def _padded(source: Array, groups: list[int]) -> Array:
    """Rows whose groups of columns are filled up with zeros: groups = [size, padded]."""
    if not groups:
        return source
    size, padded = groups
    columns = np.arange(source.shape[1])
    wide = np.zeros((len(source), -(-source.shape[1] // size) * padded), source.dtype)
    wide[:, columns // size * padded + columns % size] = source
    return wide


def _load(block: _Block, op: Any) -> Array:
    tile, (rows, count) = block.get(op.tile), tensor_of(op.fragment.type).shape
    operand = str(tensor_of(op.fragment.type).element_type)
    if OPERAND_TYPES[operand].bits == 4:
        padded = np.pad(tile, [(0, 0), (0, -tile.shape[1] % 4)]).view("<u4")
        tile = OPERAND_TYPES[operand].split(padded).reshape(len(tile), -1)
    start = block.get(op.k) - _first(block, op, tile.shape[1])
    part = tile[np.arange(rows) % len(tile), start : start + count]
    return _of_sign(part.astype(np.float64), op)


def _of_sign(values: Array, op: Any) -> Array:
    """The part of the values that an op wants."""
    half = {"all": values, "positive": np.maximum(values, 0), "negative": np.minimum(values, 0)}
    return half[op.sign.value]


def _load_scales(block: _Block, op: Any) -> Array:
    """Bytes [rows, blocks]."""
    stored = block.get(op.tile).T if op.side.value == "a" else block.get(op.tile)
    rows, blocks = tensor_of(op.fragment.type).shape
    columns = op.block.value * np.arange(blocks)
    if op.row is not None:
        part = stored[block.get(op.row) : block.get(op.row) + rows]
        groups = (block.get(op.k) + columns) // op.group.value
        padded = np.zeros((rows, max(groups) + 1), np.uint8)
        padded[: len(part), : part.shape[1]] = part[:, : padded.shape[1]]
        return padded[:, groups]
    at = block.get(op.k) - _first(block, op, stored.shape[1] * op.group.value) + columns
    return stored[np.arange(rows) % len(stored)][:, at // op.group.value]


def _mma_scaled(block: _Block, op: Any) -> Array:
    record, total = INSTRUCTIONS[op.instruction.value], block.get(op.accumulator)
    sides = []
    for values, scales in ((op.a, op.a_scales), (op.b, op.b_scales)):
        factors = decode_scale(record.scale, block.get(scales)).astype(np.float64)
        sides.append(block.get(values) * np.repeat(factors, record.block, axis=1))
    return (total + sides[0] @ sides[1].T).astype(total.dtype)


def _first(block: _Block, op: Any, depth: int) -> int:
    """Where the tiles of an op begin: as it says, or at a multiple of their columns."""
    k = block.get(op.k)
    return k - k % depth if op.first is None else block.get(op.first)


def _decode(block: _Block, op: Any) -> Array:
    fmt = parse_spelling(op.format.value)
    rows, count = tensor_of(op.fragment.type).shape
    program = decode_program(fmt, str(tensor_of(op.fragment.type).element_type))
    packets = block.get(op.codes)
    depth = packets.shape[1] * PACKET_COLUMNS
    shape = packets.shape[0] * PACKET_ROWS, depth
    if op.lower is None:
        codes = unpack_packets(program.order, packets, fmt.bits, *shape)
    else:
        planes = zip(PLANE_ORDERS.values(), (packets, block.get(op.lower)), strict=True)
        bytes_ = [unpack_packets(order, each, 8, *shape).astype(np.uint8) for order, each in planes]
        codes = merge_planes(*bytes_)
    k = block.get(op.k)
    codes = codes[:rows, k % depth : k % depth + count]
    values = fmt.element_values().astype(np.float64)[codes]
    if op.zeros is not None:
        first = _first(block, op, depth)
        zeros = block.get(op.zeros)[_group(k, op.group.value, first)].astype(np.float64)
        values = values - fmt.zero_point_codes()[codes] * zeros[:rows, None]
    return program.operand.rounded(_of_sign(values, op) / program.factor)


def _group(k: int, group: int, first: int) -> int:
    """The row of the group of k, among those of a tile that begins at `first`."""
    return k // group - first // group


def _mma(block: _Block, op: Any) -> Array:
    total = block.get(op.accumulator)
    return (total + block.get(op.a) @ block.get(op.b).T).astype(total.dtype)


def _same(value: str) -> Callable[[_Block, Any], Array]:
    """Ops that only move what an operand holds."""
    return lambda block, op: block.get(getattr(op, value))


def _tmem_view(_: _Block, op: Any) -> Array:
    return np.zeros(tensor_of(op.piece.type).shape, _dtype(op.piece.type))


def _rescale(block: _Block, op: Any) -> Array:
    scales = block.get(op.scales)
    first = _first(block, op, block.schedule.depth)
    stored = scales[_group(block.get(op.k), op.group.value, first)]
    scale = decode_scale(op.kind.value, stored).astype(np.float64)
    factor = ir.FloatAttr(op.factor).value
    with np.errstate(divide="ignore"):
        by = factor / scale if op.apply.value == "divide" else scale * factor
    total, part = block.get(op.accumulator), block.get(op.part).astype(np.float64)
    return (total + part * by[:, None]).astype(np.float32)


def _map(block: _Block, op: Any) -> Array:
    body = op.body.blocks[0]
    block.values[body.arguments[0]] = block.get(op.fragment)
    (result,) = block.run(body)
    return result


def _read(block: _Block, op: Any) -> Array:
    source, axis, start = block.get(op.source).reshape(-1), op.axis.value, block.get(op.offset)
    if axis == "one":
        return source[:1].reshape(1, 1)
    count = block.schedule.channels if axis == "n" else block.schedule.padded_tokens
    window = np.zeros(count, source.dtype)
    part = source[start : start + count]
    window[: len(part)] = part
    return window.reshape((-1, 1) if axis == "n" else (1, -1))


def _store(block: _Block, op: Any) -> None:
    target = block.get(op.target)
    row, column = (block.get(each) for each in op.offsets)
    skipped = 0 if op.first is None else max(0, block.get(op.first) - column)
    channels = slice(column + skipped, column + block.schedule.channels)
    part = target[row : row + block.schedule.tokens, channels]
    part[:] = block.get(op.fragment).T[: part.shape[0], skipped : skipped + part.shape[1]]


def _cast(block: _Block, op: Any) -> Array:
    return block.get(op.operation.operands[0]).astype(DTYPES[str(op.operation.results[0].type)])


def _constant(_: _Block, op: Any) -> Any:
    return np.float32(ir.FloatAttr(op.operation.attributes["value"]).value)


def _binary(operation: Callable[[Any, Any], Any]) -> Callable[[_Block, Any], Any]:
    return lambda block, op: operation(*(block.get(each) for each in op.operation.operands))


MEANINGS: dict[str, Callable[[_Block, Any], Any]] = {
    "tile.block_tiles": _tiles,
    "scf.for": _for,
    "tile.block_offset": _offset,
    "tile.block_range": _range,
    "tile.zeros": _zeros,
    "tile.pipeline": _pipeline,
    "tile.steps": _steps,
    "tile.copy": _copy,
    "tile.fetch": _fetch,
    "tile.load": _load,
    "tile.decode": _decode,
    "tile.mma": _mma,
    "tile.load_scales": _load_scales,
    "tile.mma_scaled": _mma_scaled,
    "tile.tmem_allocate": lambda block, op: 0,
    "tile.tmem_view": _tmem_view,
    "tile.tmem_release": lambda block, op: None,
    "tile.place": _same("fragment"),
    "tile.tmem_copy": _same("source"),
    "tile.tmem_load": _same("piece"),
    "tile.rescale": _rescale,
    "tile.map": _map,
    "tile.read": _read,
    "tile.store": _store,
    "tile.scale": lambda block, op: decode_scale(op.kind.value, block.get(op.stored)),
    "arith.constant": _constant,
    "arith.mulf": _binary(np.multiply),
    "arith.addf": _binary(np.add),
    "arith.divf": _binary(np.divide),
    "arith.sitofp": _cast,
    "arith.extf": _cast,
    "arith.truncf": _cast,
}
"""What each op makes of a block's values; `tile.combine` is the block's own."""

"""
The NumPy meaning of warp kernels: run block by block, the tiles of all warps at once.

It knows nothing of lanes, stages or decode programs, and so is the oracle of what an emitter makes
of a kernel. Sums are those of float64, rounded to fp32 after each op; operands are rounded once.
"""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np

from ..bindings import arith, ir
from ..formats.scales import decode_scale
from .dialect import tensor_of
from .reference import DTYPES
from .warp_block import Array, Block, rounded, whole_shape
from .warp_images_reference import IMAGES
from .warp_launch import argument_names
from .warp_movement_reference import MOVEMENT


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
            Block(kernel.warps.value, place, MEANINGS, dict(given)).run(body)


def _multiply(block: Block, op: Any) -> Array:
    a, b, total = (block.get(v) for v in (op.a, op.b, op.accumulator))
    k = int(block.get(op.k))
    part = a[:, :, k : k + b.shape[2]] @ b.swapaxes(1, 2)
    return (total + part).astype(total.dtype)


def _fill(_: Block, op: Any) -> Array:
    kind = DTYPES[str(tensor_of(op.fragment.type).element_type)]
    return np.full(whole_shape(op.fragment.type), ir.FloatAttr(op.number).value, kind)


def _each(block: Block, op: Any) -> Array:
    block.tile = whole_shape(op.result.type)
    kind = str(tensor_of(op.result.type).element_type)
    (value,) = block.run(op.body.blocks[0])
    integer = np.int64 if kind in ("index", "i64") else None
    value = np.broadcast_to(value, block.tile).astype(integer or DTYPES[kind])
    if op.condition is None:
        return value
    return np.where(block.get(op.condition), value, block.get(op.otherwise))


def _position(block: Block, op: Any) -> Array:
    _, rows, columns = block.tile
    return np.arange(rows)[:, None] if op.axis.value == "row" else np.arange(columns)[None]


def _element(block: Block, op: Any) -> Array:
    return block.get(op.source).reshape(-1)[block.get(op.index)]


def _reduce(block: Block, op: Any) -> Array:
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


def _for(block: Block, op: Any) -> list[Any]:
    k, *arguments = op.body.arguments
    carried = [block.get(v) for v in op.initArgs]
    bounds = (int(block.get(v)) for v in (op.lowerBound, op.upperBound, op.step))
    for at in range(*bounds):
        block.values[k] = at
        block.values.update(zip(arguments, carried, strict=True))
        carried = block.run(op.body)
    return carried


def _constant(_: Block, op: Any) -> Any:
    value = op.operation.attributes["value"]
    if isinstance(value, ir.FloatAttr):
        return np.float32(value.value)
    return ir.IntegerAttr(value).value


def _compare(block: Block, op: Any) -> Any:
    predicate = ir.IntegerAttr(op.operation.attributes["predicate"]).value
    return COMPARISONS[op.operation.name][predicate](*_given(block, op))


def _given(block: Block, op: Any) -> list[Any]:
    return [block.get(v) for v in op.operation.operands]


def _scalar(operation: Callable[..., Any]) -> Callable[[Block, Any], Any]:
    return lambda block, op: operation(*_given(block, op))


def _truncated(block: Block, op: Any) -> Array:
    (value,) = _given(block, op)
    return value.astype(DTYPES[str(op.operation.results[0].type)])


def _unless(comparison: Callable[..., Any]) -> Callable[..., Any]:
    """The opposite, which holds of NaNs too."""
    return lambda a, b: ~comparison(a, b)


P, F = arith.CmpIPredicate, arith.CmpFPredicate
COMPARISONS: dict[str, dict[int, Callable[..., Any]]] = {
    "arith.cmpi": {
        int(P.eq): np.equal, int(P.ne): np.not_equal, int(P.slt): np.less,
        int(P.sle): np.less_equal, int(P.sgt): np.greater, int(P.sge): np.greater_equal,
    },
    "arith.cmpf": {int(F.OEQ): np.equal, int(F.OLT): np.less, int(F.OGT): np.greater,
                   int(F.OGE): np.greater_equal, int(F.UNE): np.not_equal,
                   int(F.UGT): _unless(np.less_equal), int(F.UGE): _unless(np.less),
                   int(F.ULT): _unless(np.greater_equal), int(F.ULE): _unless(np.greater)},
}  # fmt: skip


def _scale(block: Block, op: Any) -> Array:
    return decode_scale(op.kind.value, block.get(op.stored))


def _fma(a: Array, b: Array, c: Array) -> Array:
    return (np.asarray(a, np.float64) * b + c).astype(np.float32)


MEANINGS: dict[str, Callable[[Block, Any], Any]] = {
    **MOVEMENT,
    **IMAGES,
    "tile.index": lambda block, op: block.place[op.axis.value],
    "tile.multiply": _multiply,
    "tile.fill": _fill,
    "tile.each": _each,
    "tile.at": lambda block, op: block.get(op.fragment),
    "tile.position": _position,
    "tile.element": _element,
    "tile.scale": _scale,
    "tile.reduce": _reduce,
    "tile.convert": lambda block, op: rounded(
        block.get(op.fragment), str(tensor_of(op.result.type).element_type)
    ),
    "tile.turn": lambda block, op: block.get(op.fragment).swapaxes(1, 2),
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
    "math.rsqrt": _scalar(lambda value: 1 / np.sqrt(value)),
    "math.fma": _scalar(_fma),
}
"""What each op makes of a block's values. Counts are never negative where they are divided."""

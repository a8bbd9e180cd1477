"""
Writing the host side of a program for a GPU: which kernels run, in what order, on what.

Passes turn ops on tensors into `tile.launch`; what is left of the function then is launches,
views of tensors, and arithmetic on sizes. codegen/cuda reads its launch plan off that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeVar

from ..dialects.bindings import Operation, arith, ir, tensor
from ..dialects.errors import UnsupportedError
from ..dialects.qcc import is_packed, logical_type
from ..dialects.source_line import source_line
from ..dialects.tile.host_ops import (
    CacheOp,
    CapacityOp,
    CountersOp,
    LaunchOp,
    MadeOp,
    NumberOp,
    PointerOp,
    ProcessorsOp,
    ResultOp,
    ScratchOp,
    TensorMapOp,
)

LAYER = "layer"
Kernel = TypeVar("Kernel")
Size = ir.Value | int
"""A value of type `index` that the host can compute, or a number."""


@dataclass(frozen=True)
class Scheduling:
    """Options that all passes of kernels have: the machine, by its name in tile/hardware.py."""

    target: str = "sm_80"


@dataclass
class Kernels(Generic[Kernel]):
    """The kernels that a pass writes to a module: one for each key, before all else."""

    module: Operation
    target: str
    _made: dict[Hashable, Kernel] = field(default_factory=dict)

    def once(self, key: Hashable, stem: str, write: Callable[[str], Kernel]) -> Kernel:
        """What `write` made of a fresh name that begins with `stem`: it is asked once for a key."""
        if key not in self._made:
            with ir.InsertionPoint.at_block_begin(self.module.regions[0].blocks[0]):
                self._made[key] = write(fresh_name(self.module, stem))
        return self._made[key]


def unsupported(op: Any, family: str, what: str, why: str, next_step: str) -> UnsupportedError:
    """The error for an op, `what` in words, that a family of kernels cannot take."""
    return UnsupportedError(
        f"{family}-unsupported",
        f"no CUDA kernel for {what}",
        where=_place(op),
        why=why,
        next_step=next_step,
    )


def _place(op: Any) -> str:
    """The layer that an op computes, and the line of the model."""
    attributes = op.operation.attributes
    layer = f"layer {ir.StringAttr(attributes[LAYER]).value}" if LAYER in attributes else ""
    return ", ".join(filter(None, (layer, source_line(op.location))))


@dataclass(frozen=True)
class Read:
    """A pointer to a tensor, a constant, a parameter or a cache; `part` of a packed one."""

    value: ir.Value
    part: str | None = None


@dataclass(frozen=True)
class Write:
    """A pointer to result `index` of the launch; `part` of a packed one."""

    index: int = 0
    part: str | None = None


@dataclass(frozen=True)
class Scratch:
    """
    A pointer to memory of the launch alone, `size` bytes.

    With `counters` it holds zeros, and the kernel leaves zeros behind.
    """

    size: Size
    counters: bool = False


@dataclass(frozen=True)
class Number:
    """A number by value: a `Size` or a float, of the type the kernel declares."""

    value: Size | float
    type: str = "i32"


@dataclass(frozen=True)
class TensorMap:
    """
    A tensor map of `value`, rows by columns of elements of `element_bytes`: copies bring a `box` of
    it, whose chunks of 16 bytes are exchanged within `swizzle` bytes.
    """

    value: ir.Value
    rows: Size
    columns: int
    element_bytes: int
    box: tuple[int, int]
    swizzle: int
    part: str | None = None


Argument = Read | Write | Scratch | Number | TensorMap


@dataclass(frozen=True)
class Made:
    """A result: a tensor or packed type, and a size for each dimension that is not static."""

    type: ir.Type
    extents: tuple[Size, ...] = ()


@dataclass(frozen=True)
class Shape:
    """Of a launch: blocks along x, y, z, threads of a block, dynamic shared memory."""

    grid: tuple[Size, Size, Size]
    threads: int
    shared_bytes: int = 0


def launch(
    kernel: str,
    shape: Shape,
    arguments: Sequence[Argument],
    results: Sequence[Made],
    replaced: Any = None,
) -> list[ir.Value]:
    """
    The results of a new `tile.launch @kernel`, whose parameters are `arguments` in order.

    A grid with a size of 0 launches nothing. Errors at run time name the layer of `replaced`.
    """
    op = LaunchOp(
        [_size(each) for each in shape.grid],
        [_given(each) for each in arguments],
        ir.StringAttr.get(kernel),
        _integer(shape.threads),
        _integer(shape.shared_bytes),
        ir.Type.parse("!tile.launched"),
    )
    if replaced is not None and LAYER in replaced.attributes:
        op.attributes[LAYER] = replaced.attributes[LAYER]
    return [
        MadeOp(
            op.launched, [_size(each) for each in made.extents], _integer(index), made.type
        ).value
        for index, made in enumerate(results)
    ]


def words(values: Sequence[int]) -> ir.Value:
    """A constant of 32-bit words without a sign, for the device."""
    signless = ir.IntegerType.get_signless(32)
    numbers = [ir.IntegerAttr.get(signless, each) for each in values]
    type_ = ir.RankedTensorType.get([len(numbers)], signless)
    return arith.constant(type_, ir.DenseElementsAttr.get(numbers, type_))


def fresh_name(module: Operation, stem: str) -> str:
    """`stem` with the first number that makes a symbol no op of the module has."""
    ops = [op.operation for op in module.regions[0].blocks[0].operations]
    taken = {
        ir.StringAttr(op.attributes[key]).value
        for op in ops
        for key in ("symbol", "sym_name")
        if key in op.attributes
    }
    return next(name for name in (f"{stem}_{i}" for i in count()) if name not in taken)


def like(value: ir.Value, type_: ir.Type | None = None) -> Made:
    """
    A result of type `type_`, whose dynamic sizes are those of `value` along the same axes.

    `value` is an operand of the op that is replaced: its own results will be gone.
    """
    wanted = logical_type(type_ or value.type)
    dynamic = [axis for axis in range(wanted.rank) if wanted.is_dynamic_dim(axis)]
    return Made(type_ or value.type, tuple(size_of(value, axis) for axis in dynamic))


def size_of(value: ir.Value, axis: int) -> Size:
    """The extent of a tensor, or of a packed value, along an axis."""
    shape = logical_type(value.type)
    if not shape.is_dynamic_dim(axis):
        return shape.shape[axis]
    if is_packed(value.type):
        owner: Any = value.owner
        if isinstance(owner, MadeOp):
            before = sum(shape.is_dynamic_dim(other) for other in range(axis))
            return owner.extents[before]
        return size_of(owner.operands[0], axis)
    return tensor.dim(value, arith.constant(ir.IndexType.get(), axis))


def product(sizes: Sequence[Size]) -> Size:
    """Numbers are multiplied here, the rest in the program."""
    known, unknown = 1, None
    for size in sizes:
        if isinstance(size, int):
            known *= size
        else:
            unknown = size if unknown is None else arith.muli(unknown, size)
    if unknown is None:
        return known
    return unknown if known == 1 else arith.muli(unknown, _size(known))


def pieces(size: Size, each: int) -> Size:
    """How many pieces of `each` cover `size`."""
    if isinstance(size, int):
        return -(-size // each)
    return arith.ceildivui(size, _size(each))


def least(one: Size, other: Size) -> Size:
    if isinstance(one, int) and isinstance(other, int):
        return min(one, other)
    return arith.minui(_size(one), _size(other))


def rows_of(value: ir.Value) -> Size:
    """The product of all extents but the last."""
    return product([size_of(value, axis) for axis in range(logical_type(value.type).rank - 1)])


def cache(name: str, type_: ir.Type, extents: Sequence[Size], grows: int) -> ir.Value:
    """
    A tensor that outlives the call, zero at first: state named `name` of a step function.

    Axis `grows` has the extent `capacity()`; what it holds is kept when that rises.
    """
    return CacheOp(
        [_size(each) for each in extents], ir.StringAttr.get(name), _integer(grows), type_
    ).value


def capacity() -> ir.Value:
    """How many positions caches have room for, at least as many as the step will fill."""
    return CapacityOp(ir.IndexType.get()).value


def processors() -> ir.Value:
    """How many multiprocessors the device has."""
    return ProcessorsOp(ir.IndexType.get()).value


def _given(argument: Argument) -> ir.Value:
    kind = ir.Type.parse("!tile.argument")
    match argument:
        case Read(value, part):
            return PointerOp(value, ir.StringAttr.get(part or ""), kind).argument
        case Write(index, part):
            return ResultOp(_integer(index), ir.StringAttr.get(part or ""), kind).argument
        case TensorMap():
            return TensorMapOp(
                argument.value,
                _size(argument.rows),
                ir.StringAttr.get(argument.part or ""),
                _integer(argument.columns),
                _integer(argument.element_bytes),
                ir.DenseI64ArrayAttr.get(list(argument.box)),
                _integer(argument.swizzle),
                kind,
            ).argument
        case Scratch(size, counters):
            return (CountersOp if counters else ScratchOp)(_size(size), kind).argument
        case Number(float(value), type_):
            number = arith.constant(ir.F64Type.get(), value)
            return NumberOp(number, ir.StringAttr.get(type_), kind).argument
        case Number(int() | ir.Value() as value, type_):
            return NumberOp(_size(value), ir.StringAttr.get(type_), kind).argument
    raise TypeError(argument)


def _size(size: Size) -> ir.Value:
    return arith.constant(ir.IndexType.get(), size) if isinstance(size, int) else size


def _integer(value: int) -> ir.IntegerAttr:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)

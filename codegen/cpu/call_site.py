"""
Where the main function meets kernels: tensors become addresses, results become tensors again.

This runs before bufferization. A tensor operand is read through `bufferization.to_buffer`, a
result is a fresh buffer turned back by `bufferization.to_tensor`, so that one-shot bufferization
sees ordinary buffers and no kernel needs to be known to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...dialects.bindings import arith, bufferization, builtin, func, ir, llvm, memref, tensor
from ...dialects.cpu.schedule import ScheduledLayer
from .emit import Ptr, Val, i64, pointer, size
from .library import KernelLibrary
from .program import CacheShape


class CallSite:
    """Builds the call of one kernel at the current insertion point."""

    def __init__(self, module: ir.Module, library: KernelLibrary) -> None:
        self.module = module
        self.library = library
        self.parameters = Parameters()
        self.caches = Caches()
        self.scheduled: list[ScheduledLayer] = []
        """Layers whose kernels have schedules, as they are converted."""
        self.device_calls: list[tuple[str, str]] = []

    def scalar(self, value: ir.Value) -> Val:
        """The element of an i64 tensor of rank 0."""
        return Val(tensor.extract(value, []))

    def address(self, value: ir.Value) -> Val:
        """The address of a tensor's elements, row-major and without gaps."""
        symbol = parameter_symbol(value)
        if symbol is not None:
            return self.parameters.address(symbol)
        type_ = ir.RankedTensorType(value.type)
        buffer_type = ir.MemRefType.get(type_.shape, type_.element_type)
        buffer = bufferization.to_buffer(buffer_type, value, read_only=True)
        return buffer_address(buffer)

    def result(self, type_: ir.Type, dynamic: Sequence[Val]) -> tuple[ir.Value, Val]:
        """A fresh buffer of tensor type `type_`: the tensor it becomes, and its address."""
        shaped = ir.RankedTensorType(type_)
        buffer_type = ir.MemRefType.get(shaped.shape, shaped.element_type)
        sizes = [as_index(extent) for extent in dynamic]
        buffer = memref.alloc(buffer_type, sizes, [])
        value = bufferization.to_tensor(type_, buffer, restrict=True, writable=True)
        return value, buffer_address(buffer)

    def buffer(self, count: Val) -> Val:
        """The address of a fresh buffer of `count` floats."""
        dynamic = ir.ShapedType.get_dynamic_size()
        buffer_type = ir.MemRefType.get([dynamic], ir.F32Type.get())
        return buffer_address(memref.alloc(buffer_type, [as_index(count)], []))

    def constants(self, values: list[float]) -> Val:
        """The address of a constant table of floats."""
        return Val(llvm.ptrtoint(i64(), self.library.constants(values).ssa))

    def extent(self, value: ir.Value, axis: int) -> Val:
        """The size of one axis of a tensor, as i64."""
        shaped = ir.RankedTensorType(value.type)
        if not shaped.is_dynamic_dim(axis):
            return size(shaped.shape[axis])
        position = arith.constant(ir.IndexType.get(), axis)
        return Val(arith.index_cast(i64(), tensor.dim(value, position)))

    def extents(self, value: ir.Value, axes: Sequence[int]) -> Val:
        """The product of the sizes of `axes`."""
        product = size(1)
        for axis in axes:
            product = product * self.extent(value, axis)
        return product

    def dynamic_like(self, type_: ir.Type, sources: dict[int, Val]) -> list[Val]:
        """The dynamic extents of `type_`, in order, out of {axis: extent}."""
        shaped = ir.RankedTensorType(type_)
        return [sources[axis] for axis in range(shaped.rank) if shaped.is_dynamic_dim(axis)]

    def launch(self, launcher: str, arguments: Sequence[Val], total: Val, grain: Val) -> None:
        func.call([], launcher, [value.ssa for value in (*arguments, total, grain)])


class Caches:
    """The KV caches that a program uses, in the order of the runtime's table."""

    def __init__(self) -> None:
        self.all: list[CacheShape] = []
        self._slots = 1

    def add(self, cache: CacheShape) -> tuple[Val, list[Val], list[Val]]:
        """The capacity in positions, and the addresses of the keys' and of the values' arrays."""
        self.all.append(cache)
        table = Ptr(llvm.mlir_addressof(pointer(), "qcc_caches"), pointer()).load()
        slots = Ptr(table.ssa, i64())
        sides: list[list[Val]] = []
        for rows in (cache.keys, cache.values):
            count = rows.array_count
            sides.append([slots.at(self._slots + index).load() for index in range(count)])
            self._slots += count
        return slots.at(0).load(), sides[0], sides[1]


class Parameters:
    """The order of the storage parts in the table of addresses that the runtime fills in."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def index(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def address(self, name: str) -> Val:
        """The address of part `name`, read from the table at run time."""
        table = Ptr(llvm.mlir_addressof(pointer(), "qcc_parameters"), pointer()).load()
        return Ptr(table.ssa, i64()).at(self.index(name)).load()


def parameter_symbol(value: ir.Value) -> str | None:
    """The name of the parameter that `value` is, None for any other value."""
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.operation.name != "qcc.param":
        return None
    return ir.StringAttr(owner.operation.attributes["symbol"]).value


def replace_op(op: ir.OpView, value: ir.Value) -> None:
    """
    Let `value`, from `CallSite.result`, stand for what `op` computed.

    It becomes a tensor only here, behind the launch that fills its buffer: where bufferization
    needs a copy of the tensor, it puts the copy at this place.
    """
    made = value.owner
    assert not isinstance(made, ir.Block)
    made.move_before(op.operation)
    op.results[0].replace_all_uses_with(value)
    op.operation.erase()


def buffer_address(buffer: ir.Value) -> Val:
    index = memref.extract_aligned_pointer_as_index(buffer)
    return Val(arith.index_cast(i64(), index))


def as_index(value: Val) -> ir.Value:
    return arith.index_cast(ir.IndexType.get(), value.ssa)


def view(address: Val, type_: ir.RankedTensorType) -> ir.Value:
    """
    The buffer of `type_`'s static shape at `address`, owned by nobody here.

    It is built as the struct that buffers lower to; the cast dissolves when they do.
    """
    shape = list(type_.shape)
    strides = [1] * len(shape)
    for axis in reversed(range(len(shape) - 1)):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    arrays = f", array<{len(shape)} x i64>, array<{len(shape)} x i64>" if shape else ""
    struct = ir.Type.parse(f"!llvm.struct<(ptr, ptr, i64{arrays})>")
    start = llvm.inttoptr(pointer(), address.ssa)
    fields: list[tuple[ir.Value, list[int]]] = [(start, [0]), (start, [1]), (size(0).ssa, [2])]
    fields += [(size(extent).ssa, [3, axis]) for axis, extent in enumerate(shape)]
    fields += [(size(stride).ssa, [4, axis]) for axis, stride in enumerate(strides)]
    descriptor = llvm.mlir_poison(struct)
    for value, position in fields:
        descriptor = llvm.insertvalue(descriptor, value, position)
    buffer = ir.MemRefType.get(shape, type_.element_type)
    return builtin.unrealized_conversion_cast([buffer], [descriptor])

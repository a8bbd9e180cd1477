"""
Where the main function meets kernels: tensors become addresses, results become tensors again.

This runs before bufferization. A tensor operand is read through `bufferization.to_buffer`, a
result is a fresh buffer turned back by `bufferization.to_tensor`, so that one-shot bufferization
sees ordinary buffers and no kernel needs to be known to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...dialects.bindings import arith, bufferization, func, ir, llvm, memref, tensor
from .emit import Ptr, Val, i64, pointer, size
from .library import KernelLibrary


class CallSite:
    """Builds the call of one kernel at the current insertion point."""

    def __init__(self, module: ir.Module, library: KernelLibrary, parameters: Parameters) -> None:
        self.module = module
        self.library = library
        self.parameters = parameters

    def address(self, value: ir.Value) -> Val:
        """The address of a tensor's elements, row-major and without gaps."""
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


def replace_op(op: ir.OpView, value: ir.Value) -> None:
    op.results[0].replace_all_uses_with(value)
    op.operation.erase()


def buffer_address(buffer: ir.Value) -> Val:
    index = memref.extract_aligned_pointer_as_index(buffer)
    return Val(arith.index_cast(i64(), index))


def as_index(value: Val) -> ir.Value:
    return arith.index_cast(ir.IndexType.get(), value.ssa)


def view_function(module: ir.Module, type_: ir.RankedTensorType) -> str:
    """
    The name of a function i64 address → memref of `type_`'s static shape, made on first use.

    The buffer descriptor is built as the struct that memrefs lower to; the cast dissolves then.
    """
    shape = list(type_.shape)
    name = "view_" + "x".join([*map(str, shape), str(type_.element_type)])
    if any(_symbol(op) == name for op in module.body.operations):
        return name
    rank = len(shape)
    arrays = f", array<{rank} x i64>, array<{rank} x i64>" if rank else ""
    struct = f"!llvm.struct<(ptr, ptr, i64{arrays})>"
    strides = [1] * rank
    for axis in reversed(range(rank - 1)):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    buffer = ir.MemRefType.get(shape, type_.element_type)
    fields = [("%p", "0"), ("%p", "1"), ("%zero", "2")]
    lines = ["%p = llvm.inttoptr %address : i64 to !llvm.ptr"]
    lines.append("%zero = llvm.mlir.constant(0 : i64) : i64")
    for axis in range(rank):
        lines.append(f"%size{axis} = llvm.mlir.constant({shape[axis]} : i64) : i64")
        lines.append(f"%stride{axis} = llvm.mlir.constant({strides[axis]} : i64) : i64")
        fields += [(f"%size{axis}", f"3, {axis}"), (f"%stride{axis}", f"4, {axis}")]
    lines.append(f"%d0 = llvm.mlir.poison : {struct}")
    for step, (value, position) in enumerate(fields):
        lines.append(f"%d{step + 1} = llvm.insertvalue {value}, %d{step}[{position}] : {struct}")
    lines.append(
        f"%buffer = builtin.unrealized_conversion_cast %d{len(fields)} : {struct} to {buffer}"
    )
    body = "\n  ".join([*lines, f"return %buffer : {buffer}"])
    text = f"func.func private @{name}(%address: i64) -> {buffer} {{\n  {body}\n}}"
    for op in ir.Module.parse(text, module.context).body.operations:
        op.operation.clone(ip=ir.InsertionPoint.at_block_begin(module.body))
    return name


def _symbol(op: ir.OpView) -> str | None:
    attributes = op.attributes
    if "sym_name" not in attributes:
        return None
    return ir.StringAttr(attributes["sym_name"]).value

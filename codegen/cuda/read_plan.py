"""
The launch plan of a module whose functions are `tile.launch` ops, views and arithmetic on sizes.

    %y = tile.made(tile.launch @linear_int4_0 …)    =>    step 3: linear_int4_0 on [b/8, 2, 1]

Only what results need is read. Views become offsets into buffers; a value that is returned gets its
memory from the caller, or a copy where it is an input, a parameter, or returned twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.errors import UnsupportedError
from ...dialects.formats import Format, parse_spelling
from ...dialects.formats.stored import stored_specs
from ...dialects.interpreter.constants import constant_array
from ...dialects.interpreter.element_types import DTYPES
from ...dialects.source_line import source_line
from .families import FAMILIES, kernels_of, kind_of
from .limits import check_grid
from .needed_ops import needed_ops
from .plan import Argument, Box, CacheSpec, Function, LaunchStep, Output
from .plan_memory import (
    Memory,
    Packed,
    Pending,
    PendingCopy,
    Placement,
    Pointer,
    Result,
    Tensor,
)
from .size_rules import SIZE_RULES
from .size_table import SizeTable
from .view_rules import VIEW_RULES, extents_of

Known = Any  # a Tensor, a Packed, a Pending, an argument, a row of sizes or a float


def read_function(module: ir.Module, name: str, constants: dict[str, np.ndarray]) -> Function:
    """
    The plan of function `name`; the arrays that it points to are added to `constants`.

    Raises UnsupportedError for an op that no pass has turned into launches.
    """
    return _Reader(module, constants).read(_function(module, name))


def _function(module: ir.Module, name: str) -> Any:
    for op in module.body.operations:
        attributes = op.operation.attributes
        if "sym_name" in attributes and ir.StringAttr(attributes["sym_name"]).value == name:
            return op
    raise KeyError(name)


class _Reader:
    """Walks one function; what each of its values is, is in `known`."""

    def __init__(self, module: ir.Module, constants: dict[str, np.ndarray]) -> None:
        self.table, self.constants = SizeTable(), constants
        self.known: dict[ir.Value, Known] = {}
        self.pending: list[Pending | PendingCopy] = []
        self.caches: list[CacheSpec] = []
        self.counts: set[int] = set()
        self.stored: dict[str, Memory] = {}
        self.families = {
            kernel: FAMILIES[kind_of(op)].name for kernel, op in kernels_of(module).items()
        }

    def read(self, function: Any) -> Function:
        block = function.operation.regions[0].blocks[0]
        for index, argument in enumerate(block.arguments):
            self.known[argument] = self.input(index, argument.type)
        needed = needed_ops(block)
        self.block(block, needed, None)
        returned = [self.known[value] for value in list(block.operations)[-1].operands]
        outputs = self.returned(returned)
        placement = Placement()
        steps = placement.placed(self.pending)
        numbers = [placement.number(memory, len(steps)) for _, memory in outputs]
        return Function(
            tuple(self.table.rows),
            placement.buffers(),
            tuple(steps),
            tuple(
                Output(tensor.element, tensor.extents, number)
                for (tensor, _), number in zip(outputs, numbers, strict=True)
            ),
            tuple(self.caches),
            tuple(sorted(self.counts)),
        )

    # ---- values

    def input(self, index: int, type_: ir.Type) -> Tensor:
        tensor = ir.RankedTensorType(type_)
        extents = tuple(
            self.table.leaf("input", index, axis)
            if tensor.is_dynamic_dim(axis)
            else self.table.constant(tensor.shape[axis])
            for axis in range(tensor.rank)
        )
        element = str(tensor.element_type)
        memory = Memory("input", self.bytes(extents, element), index=index)
        return Tensor(extents, element, memory)

    def bytes(self, extents: tuple[int, ...], element: str) -> int:
        count = self.table.product(list(extents))
        if self.table.value(count) is None:
            self.counts.add(count)
        return self.table.of("mul", count, self.table.constant(DTYPES[element].itemsize))

    def fresh(self, extents: tuple[int, ...], type_: ir.Type) -> Tensor | Packed:
        """Memory of the arena for a value of this type."""
        if not qcc.is_packed(type_):
            element = str(ir.RankedTensorType(type_).element_type)
            return Tensor(extents, element, Memory("arena", self.bytes(extents, element)))
        parts = {
            part: Memory("arena", size) for part, size in self.part_bytes(extents, type_).items()
        }
        return Packed(extents, parts)

    def part_bytes(self, extents: tuple[int, ...], type_: ir.Type) -> dict[str, int]:
        """Of the parts of a packed value, whose rows may be dynamic: a multiple, and a rest."""
        fmt = _format(type_)
        columns = self.table.value(extents[-1])
        assert columns is not None, "packed values have static rows"
        rows = self.table.product(list(extents[:-1]))
        one, two = ({
            part: int(np.prod(shape)) * np.dtype(kind).itemsize
            for part, (shape, kind) in fmt.part_specs(count, columns).items()
        } for count in (1, 2))  # fmt: skip
        sizes = {}
        for part, size in one.items():
            each = two[part] - size
            scaled = self.table.of("mul", rows, self.table.constant(each))
            sizes[part] = self.table.of("add", scaled, self.table.constant(size - each))
        return sizes

    def parameter(self, op: Any) -> Tensor | Packed:
        symbol = ir.StringAttr(op.attributes["symbol"]).value
        type_ = op.results[0].type
        shape = qcc.logical_type(type_)
        extents = tuple(map(self.table.constant, shape.shape))
        if not qcc.is_packed(type_):
            element = str(shape.element_type)
            return Tensor(extents, element, self.tensor(symbol, self.bytes(extents, element)))
        specs = stored_specs(_format(type_), qcc.layout_of(op), tuple(shape.shape))
        parts = {
            part: self.tensor(
                f"{symbol}/{part}",
                self.table.constant(int(np.prod(extent)) * np.dtype(kind).itemsize),
            )
            for part, (extent, kind) in specs.items()
        }
        return Packed(extents, parts)

    def tensor(self, name: str, size: int) -> Memory:
        return self.stored.setdefault(name, Memory("tensor", size, name))

    def constant(self, op: Any) -> Known:
        value, type_ = op.attributes["value"], op.results[0].type
        if isinstance(value, ir.IntegerAttr):
            return self.table.constant(value.value)
        if isinstance(value, ir.FloatAttr):
            return value.value
        array = np.ascontiguousarray(constant_array(value))
        extents = tuple(map(self.table.constant, array.shape))
        element = str(ir.RankedTensorType(type_).element_type)
        name = next((n for n, a in self.constants.items() if _same(a, array)), None)
        name = name or str(len(self.constants))
        self.constants[name] = array
        size = self.table.constant(array.nbytes)
        return Tensor(extents, element, self.stored.setdefault(
            f"constant {name}", Memory("constant", size, name)))  # fmt: skip

    # ---- ops

    def block(self, block: Any, needed: set[Any], condition: int | None) -> None:
        for op in block.operations:
            if op.operation in needed:
                self.op(op.operation, needed, condition)

    def op(self, op: Any, needed: set[Any], condition: int | None) -> None:
        name = op.name
        if name == "scf.if":
            self.branches(op, needed, condition)
        elif name == "tile.launch":
            self.launch(op, condition)
        elif name in SIZE_RULES and self.are_sizes(op):
            rows = [self.known[operand] for operand in op.operands]
            self.known[op.results[0]] = SIZE_RULES[name](self.table, op, rows)
        elif name in VIEW_RULES:
            self.view(op)
        elif name in _RULES:
            self.known[op.results[0]] = _RULES[name](self, op)
        elif name not in ("func.return", "scf.yield"):
            raise _refused(op, "no kernel computes it")

    def are_sizes(self, op: Any) -> bool:
        return all(isinstance(self.known.get(operand), int) for operand in op.operands)

    def view(self, op: Any) -> None:
        source, *others = (self.known[operand] for operand in op.operands)
        if not isinstance(source, Tensor):
            raise _refused(op, "it is a view of packed codes")
        view = VIEW_RULES[op.name](self.table, op, source, others)
        if view is None:
            raise _refused(op, "its elements are not neighbours in memory")
        self.known[op.results[0]] = view

    def launch(self, op: Any, condition: int | None) -> None:
        launch = op.opview
        kernel = launch.kernel.value
        arguments = [self.known[value] for value in launch.arguments]
        x, y, z = (self.known[value] for value in launch.grid)
        known = [self.table.value(size) or 0 for size in (x, y, z)]
        check_grid(kernel, known, source_line(op.location))
        layer = ir.StringAttr(op.attributes["layer"]).value if "layer" in op.attributes else ""
        step = LaunchStep(
            kernel, self.families[kernel], (x, y, z), launch.threads.value,
            launch.shared_bytes.value, (), condition, layer,
        )  # fmt: skip
        pending = Pending(step, arguments)
        self.pending.append(pending)
        self.known[op.results[0]] = pending
        # A result that nothing uses has no `tile.made`, but the kernel writes it.
        for use in op.results[0].uses:
            self.made(use.owner.operation)

    def made(self, op: Any) -> Known:
        made = op.opview
        pending, index = self.known[made.launched], made.index.value
        if index not in pending.made:
            shape = qcc.logical_type(made.value.type).shape
            sizes = [self.known[size] for size in made.extents]
            pending.made[index] = self.fresh(extents_of(self.table, shape, sizes), made.value.type)
        return pending.made[index]

    def pointer(self, op: Any) -> Pointer:
        value, part = self.known[op.operands[0]], ir.StringAttr(op.attributes["part"]).value
        if isinstance(value, Packed):
            return Pointer(value.parts[part])
        if value.memory is None:
            raise _refused(op.operands[0].owner, "a kernel reads what it never wrote")
        return Pointer(value.memory, value.offset)

    def branches(self, op: Any, needed: set[Any], outer: int | None) -> None:
        """Launches of both branches, each under its condition, into the same memory."""
        table, then = self.table, self.known[op.operands[0]]
        otherwise = table.of("eq", then, table.constant(0))
        results: list[Known] = []
        for region, taken in zip(op.regions, (then, otherwise), strict=True):
            if not region.blocks:
                continue
            condition = taken if outer is None else table.of("and", outer, taken)
            block, before = region.blocks[0], len(self.pending)
            self.block(block, needed, condition)
            own = [memory.found() for each in self.pending[before:] for memory in each.written()]
            yielded = [self.known[value] for value in list(block.operations)[-1].operands]
            results = results or [self.joined(value) for value in yielded]
            for value, whole in zip(yielded, results, strict=True):
                self.become(value, whole, condition, own)
        for result, value in zip(op.results, results, strict=True):
            self.known[result] = value

    def joined(self, value: Known) -> Tensor:
        """The memory that values of both branches become."""
        if not isinstance(value, Tensor):
            raise UnsupportedError("cuda-branch", "a branch yields something else than a tensor")
        size = self.bytes(value.extents, value.element)
        return Tensor(value.extents, value.element, Memory("arena", size))

    def become(
        self, value: Tensor, whole: Tensor, condition: int | None, own: list[Memory]
    ) -> None:
        """
        Let a value be made in the memory of `whole`, or be copied there.

        `own` is what the branch wrote: other memory keeps what it holds, whatever branch is taken.
        """
        assert value.memory is not None
        assert whole.memory is not None
        memory = value.memory.found()
        if memory in own and memory.place == "arena" and value.offset == 0:
            memory.merged = whole.memory
        else:
            self.pending.append(PendingCopy(memory, value.offset, whole.memory, condition))

    def returned(self, values: list[Known]) -> list[tuple[Tensor, Memory]]:
        """Outputs and their memory: that of the value itself where it is the value's alone."""
        outputs = []
        for index, value in enumerate(values):
            memory = value.memory.found()
            size = self.bytes(value.extents, value.element)
            alone = memory.place == "arena" and value.offset == 0 and memory.bytes == size
            if alone:
                memory.place, memory.index = "output", index
            else:
                target = Memory("output", size, index=index)
                self.pending.append(PendingCopy(memory, value.offset, target, None))
                memory = target
            outputs.append((value, memory))
        return outputs


def _format(type_: ir.Type) -> Format:
    spelling = qcc.format_spelling(type_)
    assert spelling is not None
    return parse_spelling(spelling)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _empty(reader: _Reader, op: Any) -> Tensor:
    type_ = ir.RankedTensorType(op.results[0].type)
    sizes = [reader.known[size] for size in op.operands]
    extents = extents_of(reader.table, type_.shape, sizes)
    return Tensor(extents, str(type_.element_type), None)


def _dim(reader: _Reader, op: Any) -> int:
    axis = reader.table.value(reader.known[op.operands[1]])
    if axis is None:
        raise _refused(op, "which axis is meant is known only at run time")
    return reader.known[op.operands[0]].extents[axis]


def _extract(reader: _Reader, op: Any) -> int:
    """The number in an integer scalar that the caller gives."""
    tensor = reader.known[op.operands[0]]
    if not isinstance(tensor, Tensor) or tensor.memory is None or tensor.memory.place != "input":
        raise _refused(op, "a size depends on a value that the device computes")
    if tensor.extents or not tensor.element.startswith("i"):
        raise _refused(op, "a size is taken from a tensor that is no integer scalar")
    return reader.table.leaf("value", tensor.memory.index)


def _tensor_map(reader: _Reader, op: Any) -> Pointer:
    pointer, attributes = reader.pointer(op), op.attributes
    columns, element_bytes, swizzle = (
        ir.IntegerAttr(attributes[name]).value for name in ("columns", "element_bytes", "swizzle")
    )
    rows, width = ir.DenseI64ArrayAttr(attributes["box"])
    box = Box(reader.known[op.operands[1]], columns, element_bytes, (rows, width), swizzle)
    return Pointer(pointer.memory, pointer.offset, box)


def _joined_parts(reader: _Reader, op: Any) -> Packed:
    """The parts of a packed value, in the order of its format's."""
    parts = [reader.known[operand] for operand in op.operands]
    type_ = op.results[0].type
    if not qcc.is_packed(type_) or not all(isinstance(part, Tensor) for part in parts):
        raise _refused(op, "it is a cast between types that qcc does not know")
    columns = qcc.logical_type(type_).shape[-1]
    roles = _format(type_).part_specs(1, columns)
    memories = {role: part.memory for role, part in zip(roles, parts, strict=True)}
    return Packed((*parts[0].extents[:-1], reader.table.constant(columns)), memories)


def _number(reader: _Reader, op: Any) -> Argument:
    kind, value = ir.StringAttr(op.attributes["kind"]).value, reader.known[op.operands[0]]
    if isinstance(value, float):
        return Argument("float", type=kind, value=value)
    return Argument("number", value, type=kind)


def _scratch(reader: _Reader, op: Any) -> Pointer:
    return Pointer(Memory("arena", reader.known[op.operands[0]]))


def _cache(reader: _Reader, op: Any) -> Tensor:
    cache = op.opview
    type_ = ir.RankedTensorType(cache.value.type)
    sizes = [reader.known[size] for size in cache.extents]
    extents, element = extents_of(reader.table, type_.shape, sizes), str(type_.element_type)
    name = cache.symbol.value
    reader.caches.append(CacheSpec(name, element, extents, cache.grows.value))
    return Tensor(extents, element, Memory("cache", reader.bytes(extents, element), name))


_RULES = {
    "arith.constant": _Reader.constant,
    "qcc.param": _Reader.parameter,
    "builtin.unrealized_conversion_cast": _joined_parts,
    "tensor.empty": _empty,
    "tensor.dim": _dim,
    "tensor.extract": _extract,
    "tile.pointer": _Reader.pointer,
    "tile.tensor_map": _tensor_map,
    "tile.result": lambda reader, op: Result(
        ir.IntegerAttr(op.attributes["index"]).value, ir.StringAttr(op.attributes["part"]).value
    ),
    "tile.scratch": _scratch,
    "tile.counters": lambda reader, op: Argument("counters", reader.known[op.operands[0]]),
    "tile.number": _number,
    "tile.made": _Reader.made,
    "tile.cache": _cache,
    "tile.capacity": lambda reader, op: reader.table.leaf("capacity"),
}


def _refused(op: Any, why: str) -> UnsupportedError:
    operation = op.operation
    where = source_line(operation.location)
    if not where and "layer" in operation.attributes:
        where = f"layer {operation.attributes['layer']}"
    return UnsupportedError(
        "cuda-no-kernel",
        f"target cuda has no kernel for {operation.name}",
        where=where,
        why=why,
        next_step="write this part of the model with other ops, or compile for --target cpu",
    )

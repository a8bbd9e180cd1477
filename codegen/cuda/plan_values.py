"""What the values of a function are while its launch plan is read: memory, sizes, arguments."""

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
from .plan import CacheSpec
from .plan_memory import Memory, Packed, Pointer, Tensor
from .size_table import SizeTable
from .view_rules import extents_of

Known = Any  # a Tensor, a Packed, a Pending, an argument, a row of sizes or a float


class PlanValues:
    """
    `known` has what each value is. Constants of the function are added to `constants`, its KV
    caches to `caches`, and sizes that must fit 31 bits to `counts`.
    """

    def __init__(self, constants: dict[str, np.ndarray]) -> None:
        self.table, self.constants = SizeTable(), constants
        self.known: dict[ir.Value, Known] = {}
        self.caches: list[CacheSpec] = []
        self.counts: set[int] = set()
        self.stored: dict[str, Memory] = {}

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
        fmt = format_of(type_)
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
        specs = stored_specs(format_of(type_), qcc.layout_of(op), tuple(shape.shape))
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
            raise refused(op.operands[0].owner, "a kernel reads what it never wrote")
        return Pointer(value.memory, value.offset)


def refused(op: Any, why: str) -> UnsupportedError:
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


def format_of(type_: ir.Type) -> Format:
    spelling = qcc.format_spelling(type_)
    assert spelling is not None
    return parse_spelling(spelling)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()

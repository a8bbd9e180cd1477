"""
Everything between matrix products becomes launches of fused kernels.

    %1 = linalg.generic … %0, %w        %2 = linalg.generic … %1        %3 = tensor.concat …
      =>  tile.group @fused_rsqrt_0 { the same ops }
          %3 = tile.launch @fused_rsqrt_0(%0, %w, %3, sizes)

The ops in a `tile.group` mean what they meant: it computes the same elements, and stores only what
is read outside. Which ops share a kernel is found in group_ops.py; its schedule by
dialects/tile/group_schedule.py, or by what `choose` gives. Equal groups share a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..dialects import qcc
from ..dialects.bindings import Operation, PassManager, arith, ir
from ..dialects.regions import walk
from ..dialects.tile.control import ReturnOp
from ..dialects.tile.extents import DYNAMIC, Extents
from ..dialects.tile.group import WARP, GroupSchedule
from ..dialects.tile.group_op import GroupOp, OutputOp, PartOp
from ..dialects.tile.group_schedule import default_group_schedule
from ..dialects.tile.index import Index, Size, product
from .group_ops import Group, Grouping, Leaves
from .launching import (
    Argument,
    Made,
    Number,
    Read,
    Scheduling,
    Shape,
    Write,
    fresh_name,
    launch,
    pieces,
    size_of,
)

Choose = Callable[[GroupOp], GroupSchedule]
UNDECIDED = GroupSchedule(WARP)
NAMED_LABELS = 2
NO_LABEL = ("constant", "index_cast", "extf", "truncf", "yield", "index")


@dataclass(frozen=True)
class GroupScheduling(Scheduling):
    choose: Choose = default_group_schedule


@dataclass(frozen=True)
class Kernel:
    """A kernel of the module; `totals` are the results of its reductions."""

    symbol: str
    schedule: GroupSchedule
    totals: int


def schedule_groups(options: Scheduling) -> Callable[[Operation, object], None]:
    given = options if isinstance(options, GroupScheduling) else GroupScheduling(options.target)

    def apply(module: Operation, _: object = None) -> None:
        PassManager.parse("builtin.module(func.func(linalg-generalize-named-ops))").run(module)
        kernels: dict[str, Kernel] = {}
        for op in list(module.regions[0].blocks[0].operations):
            if op.operation.name == "func.func" and op.operation.regions[0].blocks:
                _Function(module, given, kernels).group(op.operation.regions[0].blocks[0])

    return apply


@dataclass
class _Function:
    module: Operation
    options: GroupScheduling
    kernels: dict[str, Kernel]

    def group(self, block: ir.Block) -> None:
        _resolve_sizes(block)
        found = Grouping(block)
        *_, ending = found.ops
        stored: dict[ir.Value, ir.Value] = {}
        for unit in found.ordered():
            if isinstance(unit, Group):
                with ir.InsertionPoint(ending), found.ops[unit.key].location:
                    made = _Writer(self, found, unit, stored).launched()
                stored |= dict(zip(unit.outputs, made, strict=True))
            elif unit != len(found.ops) - 1:
                found.ops[unit].operation.move_before(ending.operation)
        # Not before: kernels are written from the ops as they were.
        for value, result in stored.items():
            value.replace_all_uses_with(result)
        _erase(op for op in reversed(found.ops[:-1]))


class _Writer:
    """
    One group as a kernel and its launch, at the insertion point.

    `stored` are the results of earlier launches, by what they replace.
    """

    def __init__(
        self,
        function: _Function,
        found: Grouping,
        group: Group,
        stored: dict[ir.Value, ir.Value],
    ) -> None:
        self.function, self.found, self.group, self.stored = function, found, group, stored
        self.ops = [found.ops[number] for number in sorted(group.ops)]
        inside = {v for op in self.ops for v in op.operation.results}
        read = dict.fromkeys(v for n in sorted(group.ops) for v in found.reads[n])
        outside = [v for v in read if v not in inside]
        self.tensors = [v for v in outside if isinstance(v.type, ir.RankedTensorType)]
        self.numbers = [v for v in outside if isinstance(v.type, ir.IndexType)]
        self.sizes: dict[str, ir.Value] = {}

    def launched(self) -> list[ir.Value]:
        extents, outputs = self.found.extents, self.group.outputs
        counted = [extents.of(v) for v in [*self.tensors, *outputs]]
        needed = dict.fromkeys(name for shape in counted for each in shape for name in _sizes(each))
        for value in self.numbers:
            needed |= dict.fromkeys(_sizes(extents.number(value)))
        shapes = [self._argument_extents(value, needed) for value in self.tensors]
        kernel = self._kernel(list(needed), shapes)
        work, schedule = self.group.work, kernel.schedule
        count = product(work.whole[: schedule.row_axes] if schedule.by_rows else work.whole)
        grid = pieces(self._number(count), schedule.per_block)
        arguments: list[Argument] = [self._read(value) for value in self.tensors]
        arguments += [Write(number) for number in range(len(outputs))]
        arguments += [Number(self._number(Index.of(Size(name)))) for name in needed]
        made = [
            Made(value.type, tuple(self._number(n) for n in _open(value, extents)))
            for value in outputs
        ]
        shape = Shape((grid, 1, 1), schedule.threads, schedule.shared_bytes(kernel.totals))
        return launch(kernel.symbol, shape, arguments, made, self.ops[-1])

    def _read(self, value: ir.Value) -> Read:
        owner: Any = value.owner
        if isinstance(owner, PartOp):
            return Read(self.stored.get(owner.source, owner.source), owner.part.value)
        return Read(self.stored.get(value, value))

    def _argument_extents(self, value: ir.Value, needed: dict[str, None]) -> list[int | str]:
        """Of a tensor that is read: numbers, and names of sizes; a size of its own for others."""
        found: list[int | str] = []
        for axis, extent in enumerate(self.found.extents.of(value)):
            match extent.constant, extent.atom:
                case int(number), _:
                    found.append(number)
                case _, Size(name):
                    found.append(name)
                case _:
                    leaf = self.found.leaves(value, axis)
                    found += list(_sizes(leaf))
                    needed |= dict.fromkeys(_sizes(leaf))
        return found

    def _number(self, index: Index) -> ir.Value | int:
        """A size as the host computes it."""
        if index.constant is not None:
            return index.constant
        total: ir.Value | None = None
        for term, factor in index.terms:
            value: ir.Value | None = None
            for atom in term:
                assert isinstance(atom, Size)
                size = self._leaf(atom.name)
                value = size if value is None else arith.muli(value, size)
            constant = arith.constant(ir.IndexType.get(), factor)
            value = (
                constant if value is None else value if factor == 1 else arith.muli(value, constant)
            )
            total = value if total is None else arith.addi(total, value)
        assert total is not None
        return total

    def _leaf(self, name: str) -> ir.Value:
        if name not in self.sizes:
            value, axis = self.found.leaves.places[name]
            value = self.stored.get(value, value)
            size = value if axis is None else size_of(value, axis)
            self.sizes[name] = (
                size if isinstance(size, ir.Value) else arith.constant(ir.IndexType.get(), size)
            )
        return self.sizes[name]

    # ---- the kernel

    def _kernel(self, sizes: list[str], shapes: list[list[int | str]]) -> Kernel:
        """A kernel with the ops of the group, an equal one if there is."""
        kinds = [value.type for value in self.tensors] + [ir.IndexType.get()] * len(sizes)
        names = [_argument_name(value) for value in self.tensors]
        names += [f"n{number}" for number in range(len(sizes))]
        numbered = [[n if isinstance(n, int) else -1 - sizes.index(n) for n in s] for s in shapes]
        extents = [ir.DenseI64ArrayAttr.get(each) for each in numbered]
        extents += [ir.DenseI64ArrayAttr.get([])] * len(sizes)
        function = self.function
        with ir.InsertionPoint.at_block_begin(function.module.regions[0].blocks[0]):
            op = GroupOp(
                ir.StringAttr.get(fresh_name(function.module, _stem(self.ops))),
                ir.StringAttr.get(function.options.target),
                UNDECIDED.attribute(),
                arguments=ir.ArrayAttr.get([ir.StringAttr.get(name) for name in names]),
                extents=ir.ArrayAttr.get(extents),
            )
        block = op.body.blocks.append(*kinds)
        with ir.InsertionPoint(block):
            self._fill(block, sizes)
        symbol = op.symbol.value
        text = op.operation.get_asm(use_local_scope=True).replace(f'"{symbol}"', '""')
        if text in function.kernels:
            op.operation.erase()
            return function.kernels[text]
        schedule = function.options.choose(op)
        op.operation.attributes["schedule"] = schedule.attribute()
        function.kernels[text] = Kernel(symbol, schedule, self.group.work.totals)
        return function.kernels[text]

    def _fill(self, block: ir.Block, sizes: list[str]) -> None:
        tensors, count = self.tensors, len(self.tensors)
        arguments: list[ir.Value] = list(block.arguments)
        values = dict(zip(tensors, arguments[:count], strict=True))
        known = dict(zip(sizes, arguments[count:], strict=True))
        for value in self.numbers:
            values[value] = _written(self.found.extents.number(value), known)
        for op in self.ops:
            copy = op.operation.clone()
            for inner in [copy, *(each.operation for each in walk(copy))]:
                for number, operand in enumerate(list(inner.operands)):
                    if operand in values:
                        inner.operands[number] = values[operand]
            values |= dict(zip(op.operation.results, copy.results, strict=True))
        kept = {values[output] for output in self.group.outputs}
        for op in reversed(list(block.operations)):
            if not any(list(v.uses) or v in kept for v in op.operation.results):
                op.operation.erase()
        for output in self.group.outputs:
            OutputOp(values[output])
        ReturnOp()


def _resolve_sizes(block: ir.Block) -> None:
    """Ask no op that will be fused for its sizes: follow them to where they are given."""
    leaves = Leaves()
    extents = Extents(leaves)
    for op in list(block.operations):
        if op.operation.name != "tensor.dim":
            continue
        index = extents.number(op.operation.results[0])
        if not all(isinstance(atom, Size) for term, _ in index.terms for atom in term):
            continue
        if leaves.places.get(str(index)) == (op.operation.operands[0], _axis_of(op, extents)):
            continue
        with ir.InsertionPoint(op), op.location:
            known = {name: leaves.value(name) for name in _sizes(index)}
            op.operation.results[0].replace_all_uses_with(_written(index, known))


def _axis_of(dim: Any, extents: Extents) -> int | None:
    return extents.number(dim.operation.operands[1]).constant


def _written(index: Index, sizes: dict[str, ir.Value]) -> ir.Value:
    """A polynomial of sizes as ops."""
    total: ir.Value | None = None
    for term, factor in index.terms:
        value = arith.constant(ir.IndexType.get(), factor)
        for atom in term:
            assert isinstance(atom, Size)
            value = (
                sizes[atom.name]
                if factor == 1 and len(term) == 1
                else arith.muli(value, sizes[atom.name])
            )
        total = value if total is None else arith.addi(total, value)
    return arith.constant(ir.IndexType.get(), 0) if total is None else total


def _sizes(index: Index) -> list[str]:
    return [atom.name for term, _ in index.terms for atom in term if isinstance(atom, Size)]


def _open(value: ir.Value, extents: Extents) -> list[Index]:
    """The extents of a tensor that its type leaves open."""
    shape = ir.RankedTensorType(value.type).shape
    return [n for n, size in zip(extents.of(value), shape, strict=True) if size == DYNAMIC]


def _argument_name(value: ir.Value) -> str:
    """What a kernel calls a tensor: the last part of a parameter's name, else x."""
    owner: Any = value.owner
    if isinstance(owner, PartOp):
        return owner.part.value
    if isinstance(owner, qcc.ParamOp):
        last = owner.symbol.value.split(".")[-1]
        name = "".join(letter if letter.isalnum() else "_" for letter in last)
        return name if name[:1].isalpha() else "parameter"
    return "x"


def _stem(ops: Sequence[Any]) -> str:
    """A name that says what is most telling of a group."""
    inner = [each.operation.name for op in ops for each in walk(op)]
    labels = [name.split(".")[1] for name in dict.fromkeys(inner) if name.startswith("math.")]
    labels = labels or [name.split(".")[1] for name in dict.fromkeys(inner)
                        if name.startswith("arith.")]  # fmt: skip
    labels = [label for label in labels if label not in NO_LABEL]
    return f"fused_{'_'.join(labels[:NAMED_LABELS]) or 'copy'}"


def _erase(ops: Iterable[Any]) -> None:
    """Those that nothing reads any more, users first."""
    for op in ops:
        results = list(op.operation.results)
        if results and not any(list(value.uses) for value in results) and _is_pure(op):
            op.operation.erase()


def _is_pure(op: Any) -> bool:
    return op.operation.name.startswith(("linalg.", "tensor.", "arith.", "math."))

"""
The launch plan of a module whose functions are `tile.launch` ops, views and arithmetic on sizes.

    %y = tile.made(tile.launch @linear_int4_0 …)    =>    step 3: linear_int4_0 on [b/8, 2, 1]

Only what results need is read. Views become offsets into buffers; a value that is returned gets its
memory from the caller, or a copy where it is an input, a parameter, or returned twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dialects.bindings import ir
from ...dialects.errors import UnsupportedError
from ...dialects.source_line import source_line
from .families import FAMILIES, kernels_of, kind_of
from .limits import check_grid
from .needed_ops import needed_ops
from .plan import Function, LaunchStep, Output
from .plan_memory import Memory, Pending, PendingCopy, Placement, Tensor
from .plan_values import Known, PlanValues, refused
from .size_rules import SIZE_RULES
from .value_rules import VALUE_RULES
from .view_rules import VIEW_RULES


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
    """Walks one function: its launches and copies in order, in the memory of its values."""

    def __init__(self, module: ir.Module, constants: dict[str, np.ndarray]) -> None:
        self.values = PlanValues(constants)
        self.table, self.known = self.values.table, self.values.known
        self.pending: list[Pending | PendingCopy] = []
        self.families = {
            kernel: FAMILIES[kind_of(op)].name for kernel, op in kernels_of(module).items()
        }

    def read(self, function: Any) -> Function:
        block = function.operation.regions[0].blocks[0]
        for index, argument in enumerate(block.arguments):
            self.known[argument] = self.values.input(index, argument.type)
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
            tuple(self.values.caches),
            tuple(sorted(self.values.counts)),
        )

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
        elif name in VALUE_RULES:
            self.known[op.results[0]] = VALUE_RULES[name](self.values, op)
        elif name not in ("func.return", "scf.yield"):
            raise refused(op, "no kernel computes it")

    def are_sizes(self, op: Any) -> bool:
        return all(isinstance(self.known.get(operand), int) for operand in op.operands)

    def view(self, op: Any) -> None:
        source, *others = (self.known[operand] for operand in op.operands)
        if not isinstance(source, Tensor):
            raise refused(op, "it is a view of packed codes")
        view = VIEW_RULES[op.name](self.table, op, source, others)
        if view is None:
            raise refused(op, "its elements are not neighbours in memory")
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
            self.values.made(use.owner.operation)

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
        size = self.values.bytes(value.extents, value.element)
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
            size = self.values.bytes(value.extents, value.element)
            alone = memory.place == "arena" and value.offset == 0 and memory.bytes == size
            if alone:
                memory.place, memory.index = "output", index
            else:
                target = Memory("output", size, index=index)
                self.pending.append(PendingCopy(memory, value.offset, target, None))
                memory = target
            outputs.append((value, memory))
        return outputs

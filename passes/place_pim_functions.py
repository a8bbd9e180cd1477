"""
Functions of single numbers go to DPUs, as piecewise-linear tables in fixed point.

    y = linalg.generic { x · 0.5 · (1 + erf(x / √2)) } ins(x)
      =>  pim.kernel @pim_gelu_0 { … }
          y = pim.function x {function = "gelu", kernel = "pim_gelu_0", layer = "fc1.gelu", …}

Approximate: `error` of the op is the largest difference to the function, of any number. The body
of an op is held against the function in numbers, so any spelling of it is found. Opt-in, as it
changes results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ..dialects import pim
from ..dialects.bindings import Operation, arith, ir, linalg
from ..dialects.errors import UnsupportedError, UsageError
from ..dialects.interpreter.rules.math import erf
from ..dialects.pim.cost import Cost, moving_cost
from ..dialects.pim.device import Device
from ..dialects.pim.functions import cells_attribute, table_sizes
from ..dialects.pim.host import FunctionOp
from ..dialects.pim.piecewise import FUNCTIONS, Cells, Floats
from ..dialects.pim.slots import traces
from ..dialects.pim.timing import simulate
from ..dialects.regions import walk
from .materialize_kv_cache import STEP
from .partition_pim import stay
from .pim_piecewise_kernel import pim_piecewise_kernel

PLACEABLE = ("gelu",)
CELLS = 256
BLOCKS = (256, 64, 16)
"""Numbers of one request of DMA, of which the cycle model chooses."""
ALIKE = 5e-6
"""How far a body may be from what it is taken for: fp32, and the erf of piecewise.py."""

SCALARS: dict[str, Callable[..., Any]] = {
    "arith.addf": np.add, "arith.subf": np.subtract, "arith.mulf": np.multiply,
    "arith.divf": np.divide, "arith.negf": np.negative, "math.erf": erf,
}  # fmt: skip


@dataclass(frozen=True)
class FunctionPlacement:
    """`tokens` and `step_tokens` are those of PimPartition."""

    device: Device
    functions: tuple[str, ...]
    tokens: int = 128
    step_tokens: int = 1

    def __post_init__(self) -> None:
        for name in self.functions:
            if name not in PLACEABLE:
                raise UsageError(
                    "pim-function", f"{name!r} is no function that DPUs compute",
                    why="softmax and norms need sums over rows, which stay on the host",
                    next_step=f"use {', '.join(PLACEABLE)}",
                )  # fmt: skip


def place_pim_functions(options: FunctionPlacement) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        kernels = _Kernels(module, options.device)
        for name in options.functions:
            function, low, high = FUNCTIONS[name]
            cells = Cells.of(function, low, high, CELLS)
            found = [
                each
                for each in _bodies(module, options)
                if is_function(each[0], function, low, high)
            ]
            if not found:
                raise _nothing(name)
            for op, tokens in found:
                _place(op, name, cells, kernels, tokens)

    return apply


def _bodies(module: Operation, options: FunctionPlacement) -> Iterator[tuple[Any, int]]:
    """Ops with a body of scalars, and the tokens of open sizes there."""
    for function in list(module.regions[0].blocks[0].operations):
        attributes = function.operation.attributes
        name = ir.StringAttr(attributes["sym_name"]).value if "sym_name" in attributes else ""
        for op in walk(function):
            if isinstance(op, linalg.GenericOp):
                yield op, options.step_tokens if name == STEP else options.tokens


def is_function(op: Any, function: Callable[[Floats], Floats], low: float, high: float) -> bool:
    """Whether an op applies `function` to each number of its one input, and to nothing else."""
    inputs = list(op.inputs)
    if len(inputs) != 1 or [each.type for each in op.outputs] != [inputs[0].type]:
        return False
    if str(ir.RankedTensorType(inputs[0].type).element_type) != "f32":
        return False
    maps = [ir.AffineMapAttr(each).value for each in op.indexing_maps]
    if any(each != ir.AffineMap.get_identity(each.n_dims) for each in maps):
        return False
    x = np.linspace(2 * low, 2 * high, 1001, dtype=np.float32)
    found = _scalars(op.operation.regions[0].blocks[0], x)
    return found is not None and bool(np.abs(found - function(x.astype(np.float64))).max() < ALIKE)


def _scalars(block: ir.Block, x: Floats) -> Floats | None:
    """What a body makes of its input; None where it has other ops, or reads the output."""
    values: dict[Any, Any] = {block.arguments[0]: x}
    for op in block.operations:
        operands = [values.get(each, _constant(each)) for each in op.operation.operands]
        if any(each is None for each in operands):
            return None
        if op.operation.name == "linalg.yield":
            return np.broadcast_to(operands[0], x.shape)
        if op.operation.name in SCALARS:
            values[op.operation.results[0]] = SCALARS[op.operation.name](*operands)
        elif not isinstance(op, arith.ConstantOp):
            return None
    return None


def _constant(value: ir.Value) -> Any:
    """A constant of fp32, None of other values."""
    owner: Any = value.owner
    op = None if isinstance(owner, ir.Block) else owner.opview
    if not isinstance(op, arith.ConstantOp) or not isinstance(op.type, ir.F32Type):
        return None
    return np.float32(ir.FloatAttr(op.value).value)


def _nothing(name: str) -> UnsupportedError:
    return UnsupportedError(
        "pim-function-nothing", f"the model has no {name} for DPUs",
        why="only the exact one, of erf, in fp32 is looked for",
        next_step="leave the function out",
    )  # fmt: skip


def _place(op: Any, name: str, cells: Cells, kernels: _Kernels, tokens: int) -> None:
    source = op.inputs[0]
    type_ = ir.RankedTensorType(source.type)
    open_ = any(type_.is_dynamic_dim(axis) for axis in range(type_.rank))
    fixed = [type_.shape[axis] for axis in range(type_.rank) if not type_.is_dynamic_dim(axis)]
    total = fixed[-1] * tokens if open_ and fixed else tokens if open_ else prod(fixed)
    chosen = kernels.of(name, cells, total)
    if chosen is None:
        stay(op, f"{name} needs more WRAM for its table and stacks than there is")
        return
    with ir.InsertionPoint(op), op.location:
        placed = FunctionOp(
            source, ir.StringAttr.get(name), ir.StringAttr.get(chosen.name),
            cells_attribute(cells), _number(chosen.numbers), _number(chosen.dpus),
            ir.FloatAttr.get(ir.F64Type.get(), cells.bound(FUNCTIONS[name][0])), type_,
        )  # fmt: skip
    placed.operation.attributes["layer"] = ir.StringAttr.get(_layer(source, name), op.context)
    op.results[0].replace_all_uses_with(placed.result)
    op.operation.erase()


def _number(value: int) -> ir.IntegerAttr:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


def _layer(source: ir.Value, name: str) -> str:
    """A name after the layer that the function follows."""
    producer: Any = source.owner
    attributes = {} if isinstance(producer, ir.Block) else producer.attributes
    return f"{ir.StringAttr(attributes['layer']).value}.{name}" if "layer" in attributes else name


@dataclass(frozen=True)
class _Kernel:
    name: str
    numbers: int
    dpus: int


@dataclass
class _Kernels:
    """Kernels of functions, one for each number of numbers, at the start of the module."""

    module: Operation
    device: Device
    found: dict[tuple[str, int], _Kernel] = field(default_factory=dict)

    def of(self, name: str, cells: Cells, total: int) -> _Kernel | None:
        """The fastest kernel by the cycle model; None where WRAM is too small."""
        if (name, total) not in self.found:
            written = [self._write(name, cells, total, block) for block in BLOCKS]
            timed = [each for each in written if each is not None]
            if not timed:
                return None
            best = min(timed, key=lambda each: each[0].total_ms)
            for _, op, _ in timed:
                if op is not best[1]:
                    op.operation.erase()
            self.found[name, total] = best[2]
        return self.found[name, total]

    def _write(
        self, name: str, cells: Cells, total: int, block: int
    ) -> tuple[Cost, pim.KernelOp, _Kernel] | None:
        device = self.device
        tables = sum(table_sizes(cells).values())
        tasklets = min(
            16,
            device.most_tasklets,
            (device.wram - device.runtime - tables) // (2 * block + device.stack),
        )
        if tasklets < 1:
            return None
        dpus = min(device.dpus, -(-total // (tasklets * block)))
        numbers = -(-total // (dpus * block)) * block
        kernel = _Kernel(f"pim_{name}_{len(self.found)}", numbers, dpus)
        with ir.InsertionPoint.at_block_begin(self.module.regions[0].blocks[0]):
            op = pim_piecewise_kernel(cells, numbers, device, kernel.name, tasklets, block)
        op.operation.attributes["note"] = ir.StringAttr.get(f"{name} by {len(cells.base)} cells")
        cycles = simulate(traces(op), device).cycles
        return moving_cost(device, dpus, 2 * numbers, 2 * numbers, cycles), op, kernel

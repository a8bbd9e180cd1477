"""
A function of a layer's results moves into the layer's kernel.

    y = pim.linear x, w, b {kernel = "pim_0", layer = "fc1"};  z = gelu y, and nothing else reads y
      =>  pim.kernel @pim_0_gelu { …, and behind a barrier the function }
          z = pim.linear x, w, b {kernel = "pim_0_gelu", layer = "fc1.gelu", function = "gelu", …}

What is computed is in dialects/pim/fused.py. It takes no launch and no transfer of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..dialects import pim
from ..dialects.bindings import Operation, ir
from ..dialects.formats import parse_spelling
from ..dialects.pim.cost import cost_of
from ..dialects.pim.device import Device
from ..dialects.pim.function_forms import form_attribute
from ..dialects.pim.fused import RELATIVE, FusedFunction, fused_cost
from ..dialects.pim.host import LinearOp
from ..dialects.pim.layer import schedule_of
from ..dialects.pim.linear import IntegerLinear
from ..dialects.pim.schedule import Share
from ..dialects.pim.slots import traces
from ..dialects.pim.smooth import SMOOTH
from ..dialects.pim.timing import simulate
from .choose_pim_function import fits
from .match_functions import between
from .pim_kernel import pim_kernel

SIZE = "tensor.dim"


@dataclass(frozen=True)
class FusedKernel:
    """A kernel of the module, and the milliseconds that its function takes more."""

    name: str
    milliseconds: float


def fused_layer(source: ir.Value, value: ir.Value) -> LinearOp | None:
    """The layer of results `source`, if its kernel may compute the function `value` of them."""
    owner: Any = source.owner
    op = None if isinstance(owner, ir.Block) else owner.opview
    if not isinstance(op, LinearOp) or "form" in op.operation.attributes:
        return None
    if not _read_alone(source, value):
        return None
    bias: Any = None if op.bias is None else op.bias.owner
    if bias is not None and (isinstance(bias, ir.Block) or bias.name != "qcc.param"):
        return None
    share = share_of(op)
    apart = share.problem.group or share.schedule.k_parts > 1
    formats = [parse_spelling(each.value) for each in (op.weight_format, op.activation)]
    return None if apart or any(each.zero_point for each in formats) else op


def _read_alone(source: ir.Value, value: ir.Value) -> bool:
    """Whether the numbers of `source` go into `value` and nowhere else."""
    inside, waiting = between(value, source), [source]
    for each in waiting:
        for use in each.uses:
            user = use.owner.operation
            if user.name == SIZE:
                continue
            if not all(result in inside for result in user.results) or not user.results:
                return False
            waiting += [r for r in user.results if r != value and r not in waiting]
    return True


def share_of(op: LinearOp) -> Share:
    schedule, rows, k, tokens = schedule_of(op.schedule)
    weight, activation = (parse_spelling(each.value) for each in (op.weight_format, op.activation))
    return Share(IntegerLinear(rows, k, weight, activation).problem(tokens), schedule)


@dataclass
class FusedKernels:
    """Kernels of layers with their functions, one for each share, beside those without."""

    module: Operation
    device: Device
    found: dict[tuple[str, str], FusedKernel | None] = field(default_factory=dict)

    def of(self, op: LinearOp, function: FusedFunction) -> FusedKernel | None:
        """None where a memory is too small for both."""
        key = op.kernel.value, function.name
        if key not in self.found:
            self.found[key] = self._written(op, function)
        return self.found[key]

    def _written(self, op: LinearOp, function: FusedFunction) -> FusedKernel | None:
        share, name = share_of(op), f"{op.kernel.value}_{function.name}"
        with ir.InsertionPoint.at_block_begin(self.module.regions[0].blocks[0]), op.location:
            kernel = pim_kernel(share, self.device, name, function)
        if not fits(kernel):
            return None
        cycles = simulate(traces(kernel), self.device).cycles
        both = fused_cost(share, function, self.device, cycles).total_ms
        alone = simulate(traces(kernel_named(self.module, op.kernel.value)), self.device).cycles
        return FusedKernel(name, both - cost_of(share, self.device, alone).total_ms)


def fuse(op: LinearOp, kernel: FusedKernel, function: FusedFunction) -> ir.Value:
    """The results of the function, by an op in front of `op`, which has their sizes."""
    with ir.InsertionPoint(op), op.location:
        made = LinearOp(
            op.input, op.weight, ir.StringAttr.get(kernel.name), op.weight_format, op.activation,
            op.schedule, op.result.type, bias=op.bias,
        )  # fmt: skip
        attributes, kept = made.operation.attributes, op.operation.attributes
        if "range" in kept:
            attributes["range"] = kept["range"]
        attributes["layer"] = ir.StringAttr.get(f"{op.place[0]}.{function.name}")
        attributes["function"] = ir.StringAttr.get(function.name)
        attributes["form"] = form_attribute(function.form)
        double = ir.F64Type.get()
        error = function.form.bound(SMOOTH[function.name]) + 2 * function.form.table.step
        attributes["error"] = ir.FloatAttr.get(double, error)
        attributes["relative_error"] = ir.FloatAttr.get(double, RELATIVE)
    return made.result


def kernel_named(module: Operation, name: str) -> pim.KernelOp:
    ops = module.regions[0].blocks[0].operations
    return next(op for op in ops if isinstance(op, pim.KernelOp) and op.symbol.value == name)

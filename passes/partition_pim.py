"""
Linear layers of integers go to DPUs, all else stays on the host, with the reason.

    d = qcc.dequantize (qcc.quantize x : "int4")
    y = qcc.linear d, w, b {layer = "encoder.0"}
      =>  pim.kernel @pim_0 { … }
          y = pim.linear x, w, b {kernel = "pim_0", activation = "int4", layer = "encoder.0", …}
    z = qcc.attention …   =>   … {pim.host = "attention multiplies what is computed, …"}

Sums are exact on either side; what is rounded, and how, is in dialects/pim/linear.py. Layers of one
shape and precision share a kernel. Weights of all layers stay in MRAM, so that a call moves inputs
and results only: `Plan` counts that they fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.formats import Format, parse_spelling
from ..dialects.pim.device import Device, device
from ..dialects.pim.host import LinearOp
from ..dialects.pim.linear import IntegerLinear, refusal
from ..dialects.pim.schedule import Problem, Share
from ..dialects.regions import walk
from .choose_pim_schedule import Choice, Space, choose_schedule
from .materialize_kv_cache import STEP
from .pim_kernel import pim_kernel

Chooser = Callable[[Problem, Device, str], Choice]
HOST_REASONS = {
    "qcc.attention": "its operands are both computed, so no weights stay in MRAM",
    "qcc.matmul": "its operands are both computed, so no weights stay in MRAM",
    "qcc.conv2d": "convolutions are not lowered to products of rows",
    "qcc.embedding": "a lookup moves one row; nothing is multiplied",
    "qcc.layer_norm": "no products: it would only move its input",
    "qcc.rms_norm": "no products: it would only move its input",
}


@dataclass(frozen=True)
class PimPartition:
    """
    `tokens` is what schedules are chosen for where the program leaves the rows of an input open,
    `step_tokens` in `@step`, the function that continues sequences;
    `only` are the layers to place, all if empty.
    """

    device: Device = field(default_factory=lambda: device("v1A"))
    tokens: int = 128
    step_tokens: int = 1
    space: Space = field(default_factory=Space)
    only: tuple[str, ...] = ()
    choose: Chooser | None = None

    def chosen(self, problem: Problem, layer: str) -> Choice:
        if self.choose is not None:
            return self.choose(problem, self.device, layer)
        return choose_schedule(problem, self.device, self.space, layer)


def partition_pim(options: PimPartition) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        kernels: dict[Problem, tuple[str, Share]] = {}
        for op, tokens in _ops(module, options):
            name = op.operation.name
            if name in HOST_REASONS:
                stay(op, HOST_REASONS[name])
            elif isinstance(op, qcc.LinearOp):
                layer = layer_of(op)
                reason = host_reason(op)
                if options.only and layer not in options.only:
                    reason = "the partition was told to leave it"
                if reason:
                    stay(op, reason)
                else:
                    _place(module, op, layer, options, tokens, kernels)

    return apply


def _ops(module: Operation, options: PimPartition) -> list[tuple[Any, int]]:
    """All ops inside functions, with the tokens of open sizes there."""
    found = []
    for function in module.regions[0].blocks[0].operations:
        attributes = function.operation.attributes
        name = ir.StringAttr(attributes["sym_name"]).value if "sym_name" in attributes else ""
        tokens = options.step_tokens if name == STEP else options.tokens
        found += [(op, tokens) for op in walk(function)]
    return found


def stay(op: Any, reason: str) -> None:
    op.operation.attributes["pim.host"] = ir.StringAttr.get(reason, op.operation.context)


def layer_of(op: Any) -> str:
    attributes = op.operation.attributes
    return ir.StringAttr(attributes["layer"]).value if "layer" in attributes else "linear"


def host_reason(op: qcc.LinearOp) -> str | None:
    """Why a linear layer is none for DPUs, or None."""
    spelling = qcc.format_spelling(op.weight.type)
    owner: Any = op.weight.owner
    if spelling is None or isinstance(owner, ir.Block) or owner.name != "qcc.param":
        return "its weight is in no format; give the layer one that its shape allows, such as int4"
    given = rounded_input(op)
    if given is None:
        return "its activations are not rounded; give the layer activations, such as int4"
    if reason := refusal(parse_spelling(spelling), "weights"):
        return reason
    return refusal(given[1], "activations")


def rounded_input(op: qcc.LinearOp) -> tuple[Any, Format] | None:
    """The quantize op before a layer, and its format."""
    producer: Any = op.input.owner
    if isinstance(producer, ir.Block) or producer.name != "qcc.dequantize":
        return None
    quantize: Any = producer.operands[0].owner
    if isinstance(quantize, ir.Block) or quantize.name != "qcc.quantize":
        return None
    return quantize, qcc.format_of(producer.operands[0])


def integer_linear(op: qcc.LinearOp) -> IntegerLinear:
    """A layer that `host_reason` does not refuse."""
    given = rounded_input(op)
    assert given is not None
    quantize, activation = given
    n, k = qcc.logical_type(op.weight.type).shape
    weight = qcc.format_of(op.weight)
    return IntegerLinear(n, k, weight, activation, qcc.tensor_range_of(quantize))


def token_count(op: qcc.LinearOp, unknown: int) -> int:
    result, count = ir.RankedTensorType(op.result.type), 1
    for axis in range(result.rank - 1):
        if result.is_dynamic_dim(axis):
            return unknown
        count *= result.shape[axis]
    return count


def _place(
    module: Operation,
    op: qcc.LinearOp,
    layer: str,
    options: PimPartition,
    tokens: int,
    kernels: dict[Problem, tuple[str, Share]],
) -> None:
    made = integer_linear(op)
    problem = made.problem(token_count(op, tokens))
    if problem not in kernels:
        name = f"pim_{len(kernels)}"
        share = options.chosen(problem, layer).share
        with ir.InsertionPoint.at_block_begin(module.regions[0].blocks[0]), op.location:
            pim_kernel(share, options.device, name)
        kernels[problem] = name, share
    name, share = kernels[problem]
    given = rounded_input(op)
    assert given is not None
    quantize, activation = given
    with ir.InsertionPoint(op), op.location:
        placed = LinearOp(
            quantize.operands[0], op.weight, ir.StringAttr.get(name),
            ir.StringAttr.get(made.weight.spelling), ir.StringAttr.get(activation.spelling),
            schedule_attribute(share), op.result.type, bias=op.bias,
        )  # fmt: skip
    for each, source in (("layer", op.operation), ("range", quantize)):
        if each in source.attributes:
            placed.operation.attributes[each] = source.attributes[each]
    op.result.replace_all_uses_with(placed.result)
    op.operation.erase()


def schedule_attribute(share: Share) -> ir.DictAttr:
    """A schedule, and the rows, k and tokens of its problem, as they stand in the IR."""
    p, values = share.problem, dict[str, ir.Attribute]()
    sizes = {"rows": p.rows, "k": p.k, "tokens": p.tokens}
    for name, value in (asdict(share.schedule) | sizes).items():
        if isinstance(value, bool):
            values[name] = ir.BoolAttr.get(value)
        elif isinstance(value, str):
            values[name] = ir.StringAttr.get(value)
        else:
            values[name] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
    return ir.DictAttr.get(values)

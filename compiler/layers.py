"""The layers of an imported module, as recipes see them."""

from __future__ import annotations

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..passes.assign_formats import parameter_ops
from ..passes.name_layers import WEIGHT_OPERAND, layer_name, layer_ops, weight_symbol
from .frontend.weights import WeightSource
from .plan import LayerInfo


def collect_layers(module: ir.Module) -> list[LayerInfo]:
    """One entry a layer op, in program order."""
    return [
        LayerInfo(
            layer_name(op),
            op.name.removeprefix("qcc."),
            weight_symbol(op),
            _shape(op),
            is_head=_is_head(op),
            channels=_channels(op),
        )
        for op in layer_ops(entry_function(module).operation)
    ]


def entry_function(module: ir.Module, name: str = "main") -> ir.OpView:
    """The function `name` of a module; KeyError where there is none."""
    for op in module.body.operations:
        if "sym_name" in op.attributes and ir.StringAttr(op.attributes["sym_name"]).value == name:
            return op
    raise KeyError(name)


def share_tied_parameters(module: ir.Module, weights: WeightSource) -> None:
    """Parameters that share storage become one, so that they are quantized and stored once."""
    first: dict[tuple[str, tuple[int, ...], str], str] = {}
    for parameter in parameter_ops(module.operation):
        symbol = ir.StringAttr(parameter.symbol).value
        info = weights.info(symbol)
        owner = first.setdefault((info.storage, info.shape, info.dtype), symbol)
        if owner != symbol:
            parameter.attributes["symbol"] = ir.StringAttr.get(owner)


def _shape(op: Operation) -> tuple[int, ...]:
    """The weight's shape; of attention and matmul the length of the axis that is rounded."""
    if op.name in WEIGHT_OPERAND:
        return tuple(qcc.logical_type(op.operands[WEIGHT_OPERAND[op.name]].type).shape)
    return (qcc.logical_type(op.operands[0].type).shape[-1],)


def index_limit(argument: ir.Value) -> int | None:
    """The rows of the smallest table that an argument indexes by itself, None without a table."""
    return min(
        (
            qcc.logical_type(use.owner.operation.operands[0].type).shape[0]
            for use in argument.uses
            if use.owner.operation.name == "qcc.embedding" and use.operand_number == 1
        ),
        default=None,
    )


def _channels(op: Operation) -> int | None:
    return ir.RankedTensorType(op.operands[0].type).shape[1] if op.name == "qcc.conv2d" else None


def _is_head(op: Operation) -> bool:
    """A linear layer whose result is a result of the program."""
    if op.name != "qcc.linear":
        return False
    return any(use.owner.operation.name == "func.return" for use in op.results[0].uses)

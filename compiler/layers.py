"""The layers of an imported module, as recipes see them."""

from __future__ import annotations

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..passes.assign_formats import parameter_ops
from ..passes.float_casts import is_cast
from ..passes.name_layers import WEIGHT_OPERAND, layer_name, layer_ops, weight_symbol
from .frontend.weights import WeightSource
from .plan import LayerInfo

_BODY = ("qcc.linear", "qcc.conv2d")


def collect_layers(module: ir.Module) -> list[LayerInfo]:
    """One entry a layer op, in program order."""
    ops = list(layer_ops(entry_function(module).operation))
    heads = [_returns(op) for op in ops]
    # A head is the last of several layers; where there is nothing else, it is the body.
    body = any(op.name in _BODY and not head for op, head in zip(ops, heads, strict=True))
    return [
        LayerInfo(
            layer_name(op),
            op.name.removeprefix("qcc."),
            weight_symbol(op),
            _shape(op),
            is_head=head and body,
            channels=_channels(op),
        )
        for op, head in zip(ops, heads, strict=True)
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


def _returns(op: Operation) -> bool:
    """Whether `op` is linear with a stored weight, and its result, in whatever type, returned."""
    if op.name != "qcc.linear" or weight_symbol(op) is None:
        return False
    users = [use.owner.operation for use in op.results[0].uses]
    casts = [user for user in users if is_cast(user)]
    users += [use.owner.operation for cast in casts for use in cast.results[0].uses]
    return any(user.name == "func.return" for user in users)

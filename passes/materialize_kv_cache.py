"""
Make a function that computes a causal model a few tokens at a time.

    func @main(%tokens) { %p = arange(T); … qcc.attention %q, %k, %v {causal} … }
      =>
    func @step(%tokens, %past) { %p = arange(T) + %past; … qcc.attention %q, %k, %v, %past
                                 {causal, cache = "cache.0"} … }        beside @main

In a decoder, tokens meet only in causal attention and in their positions. So with the keys and
values of `past` earlier tokens in caches, and positions counted from there, the step gives what
@main gives for the last T of past + T tokens. Keys and values that the model has in half precision
stay so in the caches. A model where tokens meet elsewhere (a mean over
time, say) would differ: the compiler runs both functions on the same tokens and drops the step
if they do. Nothing is made for a model without the shape of a decoder: one input of token ids
[batch, T] with T dynamic, and attention that is causal and unmasked throughout.
"""

from __future__ import annotations

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.torch_types import builtin_tensor_type, is_tensor
from .raiser import FLOATS, narrowest
from .torch_constants import producer

STEP = "step"
ARANGES = ("torch.aten.arange", "torch.aten.arange.start", "torch.aten.arange.start_step")


def materialize_kv_cache(module: Operation, _: object = None) -> None:
    main = next(
        (op for op in module.regions[0].blocks[0].operations if _is_main(op.operation)), None
    )
    if main is None or obstacle_to_step(main.operation) is not None:
        return
    with main.operation.context, main.operation.location:
        _add_past(_copy_after(main.operation))


def _is_main(op: Operation) -> bool:
    return op.name == "func.func" and ir.StringAttr(op.attributes["sym_name"]).value == "main"


def obstacle_to_step(main: Operation) -> str | None:
    """
    What keeps a function from having a step, None for the shape of a decoder: its "inputs", their
    "length", which is static, its having no "attention", or the "mask" of one.

    Holds for torch's tensor types as well as for builtin ones.
    """
    arguments = main.regions[0].blocks[0].arguments
    tokens = _tensor_type(arguments[0].type) if len(arguments) == 1 else None
    if tokens is None or tokens.rank != 2 or not isinstance(tokens.element_type, ir.IntegerType):
        return "inputs"
    attention = [op for op in main.regions[0].blocks[0].operations if _is_attention(op)]
    if not attention:
        return "attention"
    if not all(ir.BoolAttr(op.causal).value and op.mask is None for op in attention):
        return "mask"
    return None if tokens.is_dynamic_dim(1) else "length"


def _tensor_type(type_: ir.Type) -> ir.RankedTensorType | None:
    if is_tensor(type_):
        return builtin_tensor_type(type_)
    return type_ if isinstance(type_, ir.RankedTensorType) else None


def _is_attention(op: ir.OpView) -> bool:
    return isinstance(op, qcc.AttentionOp)


def _copy_after(main: Operation) -> Operation:
    copy = main.clone(ip=ir.InsertionPoint(main))
    main.move_before(copy)
    copy.attributes["sym_name"] = ir.StringAttr.get(STEP)
    return copy


def _add_past(step: Operation) -> None:
    block = step.regions[0].blocks[0]
    past_type = ir.Type.parse("!torch.vtensor<[],si64>")
    past = block.add_argument(past_type, step.location)
    type_ = ir.FunctionType(ir.TypeAttr(step.attributes["function_type"]).value)
    extended = ir.FunctionType.get([*type_.inputs, past_type], type_.results)
    step.attributes["function_type"] = ir.TypeAttr.get(extended)
    for op in list(block.operations):
        if op.operation.name in ARANGES and "?" in str(op.results[0].type):
            _shift(op.operation, past)
    with ir.InsertionPoint.at_block_begin(block):
        scalar = Operation.create(
            "torch_c.to_builtin_tensor", results=[builtin_tensor_type(past_type)], operands=[past]
        ).result
    attention = [op for op in block.operations if _is_attention(op)]
    for index, op in enumerate(attention):
        with ir.InsertionPoint(op), op.location:
            formats = {name: _held_in(op.operands[at]) for name, at in qcc.CACHED_OPERANDS.items()}
            cached = qcc.AttentionOp(
                op.query,
                op.key,
                op.value,
                op.scale,
                ir.StringAttr.get(f"cache.{index}"),
                op.result.type,
                past=scalar,
                causal=op.causal,
            )
            for name, spelling in formats.items():
                if spelling is not None:
                    cached.operation.attributes[name] = ir.StringAttr.get(spelling)
        op.result.replace_all_uses_with(cached.result)
        op.operation.erase()


def _held_in(rows: ir.Value) -> str | None:
    """The format that holds exactly what fp32 rows were converted from; None for fp32 itself."""
    bridge = producer(rows)
    if bridge is None or bridge.name != "torch_c.to_builtin_tensor":
        return None
    element = narrowest(bridge.operands[0])
    return None if element == "f32" else FLOATS[element]


def _shift(arange: Operation, past: ir.Value) -> None:
    """positions → positions + past, for everything that reads them."""
    positions = arange.results[0]
    readers = [(use.owner.operation, use.operand_number) for use in positions.uses]
    with ir.InsertionPoint.after(arange), arange.location:
        one = Operation.create(
            "torch.constant.int",
            results=[ir.Type.parse("!torch.int")],
            attributes={"value": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 1)},
        ).result
        shifted = Operation.create(
            "torch.aten.add.Tensor", results=[positions.type], operands=[positions, past, one]
        ).result
    for reader, index in readers:
        reader.operands[index] = shifted

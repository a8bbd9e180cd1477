"""The rule of raise_torch.py for attention: its mask and its repeated heads."""

from __future__ import annotations

import math
from dataclasses import replace

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.torch_types import builtin_tensor_type, is_tensor
from .raiser import FLOATS, Raiser, converted, element_of, rank, static_sizes, unconverted
from .torch_constants import float_constant, int_constant, is_none, producer


def raise_attention(at: Raiser) -> ir.Value | None:
    """Of fp64 too, whatever the options say: nothing else computes it."""
    at = replace(at, doubles=True)
    query, key, value, mask, dropout, causal, scale, _ = at.op.operands
    if not at.floats(query, key, value) or any(rank(v) != 4 for v in (query, key, value)):
        return None
    if float_constant(dropout) != 0.0 or _mask_kind(mask) == "unknown":
        return None
    depth = static_sizes(query, 1) or static_sizes(key, 1)
    value_depth = static_sizes(value, 1) or static_sizes(at.op.results[0], 1)
    if depth is None or value_depth is None:
        return None
    factor = 1.0 / math.sqrt(depth[0]) if is_none(scale) else float_constant(scale)
    is_causal = int_constant(causal)
    if factor is None or is_causal is None:
        return None
    key, value = _without_head_repeat(query, key), _without_head_repeat(query, value)
    heads = [builtin_tensor_type(v.type).shape[1] for v in (key, value)]
    batches = {builtin_tensor_type(v.type).shape[0] for v in (query, key, value)}
    if heads[0] != heads[1] or _may_broadcast(batches):
        return None
    additive = None if is_none(mask) else _additive_mask(at, mask)
    return qcc.AttentionOp(
        at.tensor(query, depth),
        at.tensor(key, depth),
        at.tensor(value, value_depth),
        ir.FloatAttr.get_f64(factor),
        ir.StringAttr.get(""),
        at.result_type,
        mask=additive,
        causal=ir.BoolAttr.get(bool(is_causal)),
    ).result


def _may_broadcast(sizes: set[int]) -> bool:
    """Whether sizes that should be equal are a 1 and something else, or two static ones."""
    static = sizes - {ir.ShapedType.get_dynamic_size()}
    return len(static) > 1 or (1 in sizes and len(sizes) > 1)


def _mask_kind(mask: ir.Value) -> str:
    if is_none(mask):
        return "none"
    if not is_tensor(mask.type):
        return "unknown"
    element = builtin_tensor_type(mask.type).element_type
    if str(element) in FLOATS:
        return "additive"
    is_bool = isinstance(element, ir.IntegerType) and element.width == 1
    return "boolean" if is_bool else "unknown"


def _additive_mask(at: Raiser, mask: ir.Value) -> ir.Value:
    """A boolean mask as 0 where true and -inf where false."""
    if _mask_kind(mask) == "additive":
        return at.tensor(mask)
    float_type = ir.Type.parse(str(mask.type).replace(",i1>", ",f32>"))
    values = [
        Operation.create(
            "torch.constant.float",
            results=[ir.Type.parse("!torch.float")],
            attributes={"value": ir.FloatAttr.get_f64(number)},
        ).result
        for number in (0.0, -math.inf)
    ]
    chosen = Operation.create(
        "torch.aten.where.Scalar", results=[float_type], operands=[mask, *values]
    )
    return at.tensor(chosen.result)


def _without_head_repeat(query: ir.Value, value: ir.Value) -> ir.Value:
    """The unrepeated heads when `value` is repeat_interleave(v, H / G, dim=1), or converts it."""
    op = producer(unconverted(value))
    if op is None or op.name != "torch.aten.repeat_interleave.self_int":
        return value
    repeats, axis = int_constant(op.operands[1]), int_constant(op.operands[2])
    heads = builtin_tensor_type(query.type).shape[1]
    source = op.operands[0]
    if axis not in (1, -3) or repeats is None or not is_tensor(source.type):
        return value
    fits = builtin_tensor_type(source.type).shape[1] * repeats == heads
    # A conversion that rounded is part of the value; to convert each head once is the same.
    return converted(source, element_of(value)) if fits else value

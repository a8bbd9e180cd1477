"""
The rules of raise_torch.py for norms: torch's own, and those that a model spells out in fp32.

    x * rsqrt(mean(x ** 2, -1, keepdim=True) + e)           =>   qcc.rms_norm x
    (x - mean(x)) / sqrt(var(x, unbiased=False) + e)        =>   qcc.layer_norm x
    w * qcc.rms_norm x,   qcc.layer_norm x · w + b          =>   the norm with its weight and bias

Most decoders write their norms so. Spelled in half precision every step rounds, and they stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.torch_types import builtin_tensor_type, is_tensor
from .raiser import CASTS, Raiser, element_of, rank, static_sizes
from .torch_constants import float_constant, int_constant, int_list, is_none, producer

BRIDGE = "torch_c.from_builtin_tensor"
MUL = "torch.aten.mul.Tensor"
SAME = (
    "torch.aten.mean.dim", "torch.aten.sub.Tensor", "torch.constant.bool", "torch.constant.int",
    "torch.constant.none", "torch.prim.ListConstruct",
)  # fmt: skip
"""What programs write down anew where they mean what they have."""


def raise_layer_norm(at: Raiser) -> ir.Value | None:
    source, shape, weight, bias, epsilon, *_ = at.op.operands
    axes, number = int_list(shape), float_constant(epsilon)
    if axes is None or number is None or not at.floats(source, weight, bias):
        return None
    return qcc.LayerNormOp(
        at.tensor(source, axes),
        ir.FloatAttr.get_f64(number),
        _axes(axes),
        at.result_type,
        weight=at.optional(weight),
        bias=at.optional(bias),
    ).result


def raise_rms_norm(at: Raiser) -> ir.Value | None:
    source, shape, weight, epsilon = at.op.operands
    axes = int_list(shape)
    number = 2.0**-23 if is_none(epsilon) else float_constant(epsilon)
    if axes is None or number is None or not at.floats(source, weight):
        return None
    return qcc.RmsNormOp(
        at.tensor(source, axes),
        ir.FloatAttr.get_f64(number),
        _axes(axes),
        at.result_type,
        weight=at.optional(weight),
    ).result


def raise_product(at: Raiser) -> ir.Value | None:
    """Rows times the inverse of their root mean square, or a norm times its weight."""
    for left, right in (at.op.operands, at.op.operands[::-1]):
        root = _made(right, "torch.aten.rsqrt")
        found = root and _spelled(at, left, root.operands[0])
        if found:
            return found
    return _with_part(at, "weight")


def raise_quotient(at: Raiser) -> ir.Value | None:
    rows, below = at.op.operands
    root = _made(below, "torch.aten.sqrt")
    return root and _spelled(at, rows, root.operands[0])


def raise_sum(at: Raiser) -> ir.Value | None:
    """A layer norm plus its bias."""
    factor = at.op.operands[2]
    return _with_part(at, "bias") if int_constant(factor) == 1 else None


def _spelled(at: Raiser, rows: ir.Value, spread: ir.Value) -> ir.Value | None:
    """The norm of `rows` over the root of `spread`, if that is their own and an epsilon."""
    rows = _plain(rows)
    added = _made(spread, "torch.aten.add.Scalar")
    if added is None or int_constant(added.operands[2]) != 1:
        return None
    epsilon, tail = float_constant(added.operands[1]), static_sizes(rows, 1)
    if epsilon is None or tail is None or element_of(rows) != "f32":
        return None
    moment, centred = _moment(added.operands[0]), _centred(rows)
    number = ir.FloatAttr.get_f64(epsilon)
    if moment is None:
        return None
    own = not moment.central and _alike(moment.rows, rows)
    if centred is not None and (own or (moment.central and _alike(moment.rows, centred))):
        source = at.tensor(centred, tail)
        return qcc.LayerNormOp(source, number, _axes(tail), at.result_type).result
    if own:
        return qcc.RmsNormOp(at.tensor(rows, tail), number, _axes(tail), at.result_type).result
    return None


@dataclass(frozen=True)
class Moment:
    """The mean square of the rows of a tensor: of their elements, or of those less their mean."""

    rows: ir.Value
    central: bool


def _moment(value: ir.Value) -> Moment | None:
    spread = _made(value, "torch.aten.var.dim")
    if spread is not None:
        rows, axes, unbiased, kept = spread.operands
        fits = _last(axes, rows) and int_constant(unbiased) == 0 and int_constant(kept) == 1
        return Moment(_plain(rows), True) if fits else None
    mean = _mean(value)
    square = mean and (_made(mean, "torch.aten.pow.Tensor_Scalar") or _made(mean, MUL))
    if not square:
        return None
    first, second = square.operands
    squared = float_constant(second) == 2 if square.name != MUL else _alike(first, second)
    return Moment(_plain(first), False) if squared else None


def _centred(rows: ir.Value) -> ir.Value | None:
    """x of x - mean(x)."""
    less = _made(rows, "torch.aten.sub.Tensor")
    if less is None or int_constant(less.operands[2]) != 1:
        return None
    source, mean = _plain(less.operands[0]), _mean(less.operands[1])
    return source if mean is not None and _alike(mean, source) else None


def _mean(value: ir.Value) -> ir.Value | None:
    """What `value` is the mean of along the last axis, which is kept."""
    op = _made(value, "torch.aten.mean.dim")
    if op is None:
        return None
    rows, axes, kept, kind = op.operands
    return rows if _last(axes, rows) and int_constant(kept) == 1 and is_none(kind) else None


def _last(axes: ir.Value, rows: ir.Value) -> bool:
    return int_list(axes) in ([-1], [rank(rows) - 1])


def _made(value: ir.Value, name: str) -> Operation | None:
    """The op `name` that makes `value`, a tensor of fp32."""
    value = _plain(value)
    op = producer(value)
    return op if op is not None and op.name == name and element_of(value) == "f32" else None


def _plain(value: ir.Value) -> ir.Value:
    """`value` before casts to the type that it has."""
    op = producer(value)
    while op is not None and op.name in CASTS and op.operands[0].type == value.type:
        value = op.operands[0]
        op = producer(value)
    return value


def _alike(a: ir.Value, b: ir.Value) -> bool:
    """Whether both are one value, or are made by the same ops of the same values."""
    a, b = _plain(a), _plain(b)
    if a == b:
        return True
    first, second = producer(a), producer(b)
    if first is None or second is None or first.name != second.name or a.type != b.type:
        return False
    return (
        first.name in SAME
        and str(first.attributes) == str(second.attributes)
        and len(first.operands) == len(second.operands)
        and all(map(_alike, first.operands, second.operands))
    )


def _with_part(at: Raiser, part: str) -> ir.Value | None:
    """A norm that nothing else reads, with a vector of its columns as its `part`."""
    for normed, vector in (at.op.operands[:2], at.op.operands[1::-1]):
        norm = _norm(normed)
        if norm is None or not is_tensor(vector.type) or _given(norm, part):
            continue
        columns = [ir.RankedTensorType(norm.result.type).shape[-1]]
        if element_of(vector) != "f32" or list(builtin_tensor_type(vector.type).shape) != columns:
            continue
        parts = {name: getattr(norm, name, None) for name in ("weight", "bias")}
        given: dict[str, Any] = parts | {part: at.tensor(vector)}
        if isinstance(norm, qcc.RmsNormOp):
            del given["bias"]
        return type(norm)(norm.input, norm.epsilon, norm.axes, norm.result.type, **given).result
    return None


def _given(norm: Any, part: str) -> bool:
    """Whether a norm has that part, cannot have it, or has a bias, which comes after a weight."""
    return getattr(norm, part, 0) is not None or getattr(norm, "bias", None) is not None


def _norm(value: ir.Value) -> Any:
    """The norm over one axis that makes `value` and that nothing else reads, or None."""
    bridge = producer(_plain(value))
    made = producer(bridge.operands[0]) if bridge is not None and bridge.name == BRIDGE else None
    norm: Any = None if made is None else made.opview
    if bridge is None or not isinstance(norm, qcc.RmsNormOp | qcc.LayerNormOp):
        return None
    alone = _reads(norm.result) == _reads(bridge.results[0]) == 1
    return norm if alone and ir.IntegerAttr(norm.axes).value == 1 else None


def _reads(value: ir.Value) -> int:
    """The ops that compute with `value`; what exported programs assert of it counts for nothing."""
    readers = (use.owner.operation.name for use in value.uses)
    return sum(name != "torch.aten._assert_tensor_metadata" for name in readers)


def _axes(shape: Sequence[int]) -> ir.IntegerAttr:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), len(shape))


NORM_RULES: dict[str, Callable[[Raiser], ir.Value | None]] = {
    "torch.aten.layer_norm": raise_layer_norm,
    "torch.aten.rms_norm": raise_rms_norm,
    MUL: raise_product,
    "torch.aten.div.Tensor": raise_quotient,
    "torch.aten.add.Tensor": raise_sum,
}

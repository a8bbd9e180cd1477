"""
Attention taken apart, so that its softmax is an op of its own.

    qcc.attention q, k, v, mask {scale, causal}
      =>  s = qcc.matmul q, transpose k;  s · scale + mask, -inf where causality hides
          p = softmax s                                           whoever computes it
          qcc.matmul p, v

Heads that share keys are rows of one product. Exact but for the order of fp32 sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from ..dialects import qcc
from ..dialects.bindings import arith, ir
from .elementwise import Axes, dim, empty, generic

Softmax = Callable[[ir.Value], ir.Value]
OPEN = ir.ShapedType.get_dynamic_size()


def score_shape(op: qcc.AttentionOp) -> list[int]:
    """[B, H, T, S], OPEN where it is not known."""
    query, key = _shape(op.query), _shape(op.key)
    return [*query[:3], key[2]]


def split_attention(op: qcc.AttentionOp, softmax: Softmax) -> None:
    """Replace an op that has no cache; `softmax` makes weights [B, H, T, S] of scores."""
    with ir.InsertionPoint(op), op.location:
        groups = _shape(op.key)[1]
        products = _product(_folded(op.query, groups), _folded(_transposed(op.key), groups))
        weights = softmax(_scores(op, _unfolded(products, op.query, groups)))
        values = _product(_folded(weights, groups), _folded(op.value, groups))
        result = _unfolded(values, op.query, groups)
    op.result.replace_all_uses_with(result)
    op.operation.erase()


def _scores(op: qcc.AttentionOp, products: ir.Value) -> ir.Value:
    scale = arith.constant(ir.F32Type.get(), ir.FloatAttr(op.scale).value)
    inputs: list[tuple[ir.Value, Axes]] = [(products, range(4))]
    if op.mask is not None:
        shape = _shape(op.mask)
        axes = range(4 - len(shape), 4)
        inputs.append((op.mask, [None if n == 1 else a for n, a in zip(shape, axes, strict=True)]))
    causal = "causal" in op.operation.attributes and ir.BoolAttr(op.causal).value

    def body(product: ir.Value, *mask: ir.Value) -> ir.Value:
        score = arith.mulf(product, scale)
        for each in mask:
            score = arith.addf(score, each)
        if not causal:
            return score
        sees = arith.cmpi(arith.CmpIPredicate.sle, _index(3), _index(2))
        return arith.select(sees, score, arith.constant(ir.F32Type.get(), float("-inf")))

    return generic(inputs, (empty(products, range(4), ir.F32Type.get()), range(4)), body)


def _index(axis: int) -> ir.Value:
    number = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), axis)
    made = ir.Operation.create(
        "linalg.index", results=[ir.IndexType.get()], attributes={"dim": number}
    )
    return made.results[0]


def _transposed(key: ir.Value) -> ir.Value:
    axes = [0, 1, 3, 2]
    target = empty(key, axes, ir.F32Type.get())
    return generic([(key, axes)], (target, range(4)), lambda each: each)


def _product(left: ir.Value, right: ir.Value) -> ir.Value:
    (batch, rows, _), columns = _shape(left), _shape(right)[2]
    kind = ir.RankedTensorType.get([batch, rows, columns], ir.F32Type.get())
    return qcc.MatmulOp(left, right, kind).result


def _folded(value: ir.Value, groups: int) -> ir.Value:
    """[B, H, T, D] as [B · groups, H / groups · T, D]."""
    batch, heads, length, depth = _shape(value)
    sizes = [batch, groups, heads // groups, length, depth]
    open_ = [dim(value, axis) for axis in (0, 2, 3) if _shape(value)[axis] == OPEN]
    apart = _expanded(value, [[0], [1, 2], [3], [4]], sizes, open_)
    return _collapsed(apart, [[0, 1], [2, 3], [4]])


def _unfolded(value: ir.Value, query: ir.Value, groups: int) -> ir.Value:
    """[B · groups, H / groups · T, D] as [B, H, T, D], of the sizes of `query`."""
    batch, heads, length, _ = _shape(query)
    sizes = [batch, groups, heads // groups, length, _shape(value)[2]]
    open_ = [dim(query, axis) for axis in (0, 2) if _shape(query)[axis] == OPEN]
    open_ += [dim(value, 2)] if _shape(value)[2] == OPEN else []
    apart = _expanded(value, [[0, 1], [2, 3], [4]], sizes, open_)
    return _collapsed(apart, [[0], [1, 2], [3], [4]])


def _expanded(
    value: ir.Value, groups: Sequence[Sequence[int]], sizes: list[int], open_: list[ir.Value]
) -> ir.Value:
    kind = ir.RankedTensorType.get(sizes, ir.F32Type.get())
    attributes = {"static_output_shape": ir.DenseI64ArrayAttr.get(sizes)}
    return _view("tensor.expand_shape", kind, [value, *open_], groups, attributes)


def _collapsed(value: ir.Value, groups: Sequence[Sequence[int]]) -> ir.Value:
    shape = _shape(value)
    sizes = [
        OPEN if OPEN in (part := [shape[axis] for axis in group]) else prod(part)
        for group in groups
    ]
    kind = ir.RankedTensorType.get(sizes, ir.F32Type.get())
    return _view("tensor.collapse_shape", kind, [value], groups, {})


def _view(
    name: str, kind: ir.Type, operands: list[ir.Value], groups: Sequence[Sequence[int]],
    attributes: Mapping[str, ir.Attribute],
) -> ir.Value:  # fmt: skip
    index = ir.IntegerType.get_signless(64)
    axes = [ir.ArrayAttr.get([ir.IntegerAttr.get(index, a) for a in group]) for group in groups]
    joined = {**attributes, "reassociation": ir.ArrayAttr.get(axes)}
    made = ir.Operation.create(name, results=[kind], operands=operands, attributes=joined)
    return made.results[0]


def _shape(value: ir.Value) -> list[int]:
    return list(ir.RankedTensorType(value.type).shape)

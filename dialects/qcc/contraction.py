"""Contractions: linear, matmul, conv2d, attention, and the embedding lookup."""

from typing import Any, Optional

from ..bindings import Operand, Result, ext, ir
from .dialect import Qcc, logical_type


class LinearOp(Qcc.Operation, name="linear", traits=[ext.Pure]):
    """
    result[..., n] = sum over k of input[..., k] * weight[n, k]  + bias[n].

    `weight` is [N, K], plain or packed (decoded exactly, blocks along K). Products are exact in
    fp32 or rounded once; the sum is fp32, in any order.
    """

    input: Operand[Any]
    weight: Operand[Any]
    result: Result[Any]
    bias: Optional[Operand[Any]] = None

    def verify_invariants(self) -> bool:
        weight, source = logical_type(self.weight.type), logical_type(self.input.type)
        if weight.rank != 2 or source.shape[-1] != weight.shape[1]:
            self.location.emit_error(
                f"qcc.linear: input {source} and weight {weight} do not share K; "
                "weight must be [N, K] and the input's last axis K"
            )
            return False
        return True


class MatmulOp(Qcc.Operation, name="matmul", traits=[ext.Pure]):
    """
    result[b, m, n] = sum over k of lhs[b, m, k] * rhs[b, k, n], fp32 sum in any order.

    Both operands are plain tensors of rank 3 with the same leading axis.
    """

    lhs: Operand[Any]
    rhs: Operand[Any]
    result: Result[Any]

    def verify_invariants(self) -> bool:
        lhs, rhs = logical_type(self.lhs.type), logical_type(self.rhs.type)
        if lhs.rank != 3 or rhs.rank != 3:
            self.location.emit_error(f"qcc.matmul takes two rank-3 tensors, not {lhs} and {rhs}")
            return False
        return True


class Conv2dOp(Qcc.Operation, name="conv2d", traits=[ext.Pure]):
    """
    2-D cross-correlation, NCHW: input [N, C, H, W], weight [O, C/groups, kh, kw], bias [O].

    A packed weight is blocked along its flattened (C/groups, kh, kw) axis. fp32 sum in any order.
    """

    input: Operand[Any]
    weight: Operand[Any]
    stride: Any
    padding: Any
    dilation: Any
    groups: ir.IntegerAttr
    result: Result[Any]
    bias: Optional[Operand[Any]] = None

    def verify_invariants(self) -> bool:
        weight, source = logical_type(self.weight.type), logical_type(self.input.type)
        if weight.rank != 4 or source.rank != 4:
            self.location.emit_error(f"qcc.conv2d takes rank-4 tensors, not {source}, {weight}")
            return False
        channels = ir.IntegerAttr(self.groups).value * weight.shape[1]
        if not source.is_dynamic_dim(1) and source.shape[1] != channels:
            self.location.emit_error(
                f"qcc.conv2d: {source.shape[1]} input channels, but the weight expects {channels}"
            )
            return False
        return True


class AttentionOp(Qcc.Operation, name="attention", traits=[ext.Pure]):
    """
    softmax(scale * query key^T + mask) value, softmax over keys in fp32.

    query [B, H, T, D], key and value [B, G, S, D] and [B, G, S, E]; H is a multiple of G and query
    head h reads key head h // (H / G). With `causal`, query t sees key s only if s <= t + past,
    where past is 0 without a cache and S - T with one. `mask`, when given, is additive fp32 and
    broadcastable to [B, H, T, S]; a row that sees no key gives zeros. With `past` (an i64 tensor
    of rank 0), the keys and values of the `past` earlier positions are taken from the cache named
    `cache`, and this call's keys and values are appended to it.
    """

    query: Operand[Any]
    key: Operand[Any]
    value: Operand[Any]
    scale: ir.FloatAttr
    cache: ir.StringAttr
    result: Result[Any]
    mask: Optional[Operand[Any]] = None
    past: Optional[Operand[Any]] = None
    # ext takes a false BoolAttr for an absent one, so absence must mean false.
    causal: Any = ext.attribute(default_factory=lambda: ir.BoolAttr.get(False))

    def verify_invariants(self) -> bool:
        query, key = logical_type(self.query.type), logical_type(self.key.type)
        if query.rank != 4 or key.rank != 4 or query.shape[1] % key.shape[1]:
            self.location.emit_error(
                f"qcc.attention: query {query} and key {key} must be rank 4 with the query heads "
                "a multiple of the key heads"
            )
            return False
        return True


class EmbeddingOp(Qcc.Operation, name="embedding", traits=[ext.Pure]):
    """result[..., :] = decode(table)[indices[...], :]; an index out of range is undefined."""

    table: Operand[Any]
    indices: Operand[Any]
    result: Result[Any]

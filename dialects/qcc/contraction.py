"""Contractions: linear, matmul, conv2d, and the embedding lookup."""

from typing import Any, Optional

from ..bindings import Operand, Result, ext, ir
from .dialect import Qcc, logical_type


class LinearOp(Qcc.Operation, name="linear", traits=[ext.Pure]):
    """
    result[..., n] = sum over k of input[..., k] * weight[n, k]  + bias[n].

    `weight` is [N, K], plain or packed (decoded exactly, blocks along K). Products are exact in
    fp32 or rounded once; the sum is fp32, in any order.

    Input, bias and result are fp32, as of every op of this dialect: programs of other float types
    convert before and after. A weight of theirs is packed in the format `fp16` or `bf16`.
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


class EmbeddingOp(Qcc.Operation, name="embedding", traits=[ext.Pure]):
    """result[..., :] = decode(table)[indices[...], :]; an index of no row: NaN, or an error."""

    table: Operand[Any]
    indices: Operand[Any]
    result: Result[Any]

"""
Raise the torch ops that qcc owns to the qcc dialect.

    torch.aten.linear %x, %w, %b        =>   qcc.linear
    torch.aten.scaled_dot_product_…     =>   qcc.attention
    torch.aten.conv2d (Conv1d too: respell_signals.py), mm, bmm, embedding likewise
    norms: raise_norms.py
    torch.aten.gelu %x, "tanh"          =>   elementary torch ops (tanh_gelu.py)

Exact in fp32, where each qcc op is defined as the torch op. In fp16, bf16 and, where the options
ask for it, fp64, operands become fp32 and the result rounds once to the type that it had: in half
precision not less accurate than torch, in fp64 with an error of fp32. An op whose operands do
not fit the qcc definition (integers, a non-constant stride, …) is left alone, and torch-mlir
lowers it to linalg. Values cross between the dialects over torch_c's tensor bridges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.torch_types import builtin_tensor_type, is_tensor
from .raise_attention import raise_attention
from .raise_norms import NORM_RULES
from .raiser import (
    FLOATS,
    TRANSPOSES,
    Raiser,
    converted,
    element_of,
    rank,
    static_sizes,
    unconverted,
)
from .tanh_gelu import tanh_gelu
from .torch_constants import int_constant, int_list, producer


@dataclass(frozen=True, slots=True)
class Raising:
    """`doubles` also raises other ops than attention on fp64, which then compute in fp32."""

    doubles: bool = False


def raise_torch(options: Raising) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        for function in module.regions[0].blocks[0].operations:
            for block in function.regions[0].blocks:
                for op in list(block.operations):
                    rule = RULES.get(op.operation.name)
                    if rule is not None:
                        _raise(Raiser(op.operation, options.doubles), rule)

    return apply


def _raise(at: Raiser, rule: Callable[[Raiser], ir.Value | None]) -> None:
    op = at.op
    if not all(is_tensor(result.type) for result in op.results):
        return
    with ir.InsertionPoint(op), op.location:
        value = rule(at)
        if value is None:
            return
        result = op.results[0]
        element = element_of(result)
        made = ir.Type.parse(str(result.type).replace(f",{element}>", f",{element_of(value)}>"))
        bridge = Operation.create("torch_c.from_builtin_tensor", results=[made], operands=[value])
        result.replace_all_uses_with(converted(bridge.result, element))
    op.erase()


def raise_linear(at: Raiser) -> ir.Value | None:
    source, weight, bias = at.op.operands
    if not at.floats(source, weight, bias) or rank(weight) != 2:
        return None
    # No kernel is made for a weight of dynamic size.
    if static_sizes(weight) is None:
        return None
    return _linear(at, source, at.weight(weight), at.optional(bias))


def _linear(at: Raiser, source: ir.Value, weight: ir.Value, bias: ir.Value | None) -> ir.Value:
    data = at.tensor(source, qcc.logical_type(weight.type).shape[1:])
    return qcc.LinearOp(data, weight, at.result_type, bias=bias).result


def raise_addmm(at: Raiser) -> ir.Value | None:
    """addmm(bias, x, transpose(w)) is what a decomposed linear looks like."""
    bias, source, factor, beta, alpha = at.op.operands
    plain = int_constant(beta) == 1 and int_constant(alpha) == 1
    if not plain or not at.floats(bias, source, factor) or rank(bias) != 1:
        return None
    weight = _weight_of(at, factor)
    return None if weight is None else _linear(at, source, weight, at.tensor(bias))


def raise_mm(at: Raiser) -> ir.Value | None:
    source, factor = at.op.operands
    if not at.floats(source, factor):
        return None
    weight = _weight_of(at, factor)
    return None if weight is None else _linear(at, source, weight, None)


def raise_matmul(at: Raiser) -> ir.Value | None:
    """x @ w, where x may have more axes than a matrix."""
    source, factor = at.op.operands
    if not is_tensor(source.type) or not is_tensor(factor.type):
        return None
    return raise_mm(at) if rank(source) > 1 and rank(factor) == 2 else None


def _weight_of(at: Raiser, factor: ir.Value) -> ir.Value | None:
    """
    The weight [N, K] of a layer that multiplies by the matrix `factor` [K, N] from the right.

    None unless `factor` is a transpose, or a parameter, whose transpose is then stored.
    """
    source = _transposed_source(factor)
    if source is None:
        return at.transposed_weight(factor)
    return None if static_sizes(source) is None else at.weight(source)


def _transposed_source(value: ir.Value) -> ir.Value | None:
    """w when `value` is the transpose of a matrix w, before or after a conversion."""
    source = _untransposed(unconverted(value))
    return None if source is None else converted(source, element_of(value))


def _untransposed(value: ir.Value) -> ir.Value | None:
    op = producer(value)
    if op is None or op.name not in TRANSPOSES or rank(op.operands[0]) != 2:
        return None
    source = op.operands[0]
    if op.name in ("torch.aten.t", "torch.aten.numpy_T"):
        return source
    if op.name == "torch.aten.permute":
        return source if int_list(op.operands[1]) in ([1, 0], [-1, -2]) else None
    axes = {int_constant(op.operands[1]), int_constant(op.operands[2])}
    return source if axes in ({0, 1}, {-1, -2}, {0, -1}, {1, -2}) else None


def raise_bmm(at: Raiser) -> ir.Value | None:
    lhs, rhs = at.op.operands[:2]
    if not at.floats(lhs, rhs) or rank(lhs) != 3 or rank(rhs) != 3:
        return None
    if builtin_tensor_type(lhs.type).shape[0] != builtin_tensor_type(rhs.type).shape[0]:
        return None
    return qcc.MatmulOp(at.tensor(lhs), at.tensor(rhs), at.result_type).result


def raise_conv2d(at: Raiser) -> ir.Value | None:
    source, weight, bias, stride, padding, dilation, groups = at.op.operands
    return _conv2d(at, source, weight, bias, stride, padding, dilation, groups)


def raise_convolution(at: Raiser) -> ir.Value | None:
    source, weight, bias, stride, padding, dilation, transposed, _, groups = at.op.operands
    if int_constant(transposed) != 0:
        return None
    return _conv2d(at, source, weight, bias, stride, padding, dilation, groups)


def _conv2d(at: Raiser, *operands: ir.Value) -> ir.Value | None:
    source, weight, bias, *window, groups = operands
    if not at.floats(source, weight, bias) or rank(source) != 4:
        return None
    # Not every target has a kernel for computed weights of images; torch-mlir lowers all.
    if at.computes_signal_weight(weight):
        return None
    pairs = [int_list(value) for value in window]
    group_count = int_constant(groups)
    if any(pair is None for pair in pairs) or group_count is None:
        return None
    if ir.ShapedType.get_dynamic_size() in builtin_tensor_type(weight.type).shape:
        return None
    stride, padding, dilation = (ir.DenseI64ArrayAttr.get(_pair(pair)) for pair in pairs)
    i64 = ir.IntegerType.get_signless(64)
    return qcc.Conv2dOp(
        at.tensor(source),
        at.weight(weight),
        stride,
        padding,
        dilation,
        ir.IntegerAttr.get(i64, group_count),
        at.result_type,
        bias=at.optional(bias),
    ).result


def _pair(values: Sequence[int] | None) -> list[int]:
    assert values is not None
    return list(values) if len(values) == 2 else [values[0], values[0]]


def raise_embedding(at: Raiser) -> ir.Value | None:
    table, indices, *_ = at.op.operands
    if not at.floats(table) or rank(table) != 2 or static_sizes(table) is None:
        return None
    element = builtin_tensor_type(indices.type).element_type
    if not isinstance(element, ir.IntegerType) or element.width != 64:
        return None
    return qcc.EmbeddingOp(at.weight(table), at.tensor(indices), at.result_type).result


def raise_gelu(at: Raiser) -> ir.Value | None:
    source = at.operand(0)
    if not is_tensor(source.type) or element_of(source) not in FLOATS:
        return None
    wide = source if element_of(source) == "f64" else converted(source, "f32")
    value = tanh_gelu(at.op, wide)
    return None if value is None else at.bridged(value)


RULES: dict[str, Callable[[Raiser], ir.Value | None]] = {
    **NORM_RULES,
    "torch.aten.addmm": raise_addmm,
    "torch.aten.bmm": raise_bmm,
    "torch.aten.conv2d": raise_conv2d,
    "torch.aten.convolution": raise_convolution,
    "torch.aten.embedding": raise_embedding,
    "torch.aten.gelu": raise_gelu,
    "torch.aten.linear": raise_linear,
    "torch.aten.matmul": raise_matmul,
    "torch.aten.mm": raise_mm,
    "torch.aten.scaled_dot_product_attention": raise_attention,
}

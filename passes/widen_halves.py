"""
Half precision computes in fp32, and each torch op rounds its result once, as torch does.

    silu %x : bf16   =>   %a = x to f32; %b = silu %a : f32; b to bf16

Before torch-mlir, to which silu is several ops and a sigmoid four operations of arithmetic, each
of which would round. The conversions are ops of the program, so that whatever runs it, the
reference interpreter or a target, rounds in the same places, fused loops included. Results are
torch's, bit by bit, where torch rounds once and its fp32 function is the same. Ops that only
move, choose or compare values round nothing and stay.
"""

from __future__ import annotations

from ..dialects.bindings import Operation, ir
from ..dialects.regions import walk
from ..dialects.torch_types import is_tensor
from .raiser import FLOATS, conversion, converted, element_of

HALVES = ("f16", "bf16")
NAMES = """
    add sub rsub mul div addcmul addcdiv lerp square sqrt rsqrt reciprocal pow
    exp exp2 expm1 log log2 log10 log1p sigmoid logit tanh erf erfc
    sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh
    silu gelu glu hardswish hardsigmoid leaky_relu prelu elu selu celu softplus mish softshrink
    remainder fmod floor_divide xlogy logaddexp logaddexp2
    softmax log_softmax _softmax _log_softmax logsumexp
    sum mean prod var std cumsum cumprod norm linalg_vector_norm frobenius_norm
    layer_norm native_layer_norm group_norm native_group_norm rms_norm
    batch_norm native_batch_norm instance_norm
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d _adaptive_avg_pool2d
    adaptive_avg_pool3d upsample_bilinear2d
    mm bmm addmm baddbmm matmul mv dot linear convolution conv1d conv2d conv3d
    conv_transpose1d conv_transpose2d conv_transpose3d scaled_dot_product_attention
"""
ROUNDING = frozenset(f"torch.aten.{name}" for name in NAMES.split())
IN_HALF = frozenset(f"torch.aten.{name}" for name in ("add", "sub", "rsub", "remainder", "fmod"))
"""Of those, what takes all operands in half precision; others a number, or one of no axes, not."""


def widen_halves(module: Operation, _: object = None) -> None:
    for op in (child.operation for child in walk(module)):
        if _stem(op) in ROUNDING and any(map(_is_half, op.results)):
            _widen(op)


def _stem(op: Operation) -> str:
    """Its name without the overload."""
    return ".".join(op.name.split(".")[:3])


def _is_half(value: ir.Value) -> bool:
    return is_tensor(value.type) and element_of(value) in HALVES


def _widen(op: Operation) -> None:
    with ir.InsertionPoint(op), op.location:
        half = next(element_of(each) for each in op.results if _is_half(each))
        operands = [_wide(op, each, half) for each in op.operands]
        kinds = [_single(each) if _is_half(each) else each.type for each in op.results]
        attributes = {each.name: each.attr for each in op.attributes}
        made = Operation.create(op.name, results=kinds, operands=operands, attributes=attributes)
        for before, after in zip(op.results, made.results, strict=True):
            rounded = converted(after, half) if _is_half(before) else after
            before.replace_all_uses_with(rounded)
    op.erase()


def _wide(op: Operation, operand: ir.Value, half: str) -> ir.Value:
    """An operand in fp32, rounded to half precision before where torch does."""
    if not is_tensor(operand.type):
        return operand
    if _stem(op) in IN_HALF or element_of(operand) not in FLOATS:
        operand = operand if element_of(operand) == half else conversion(operand, half)
    return converted(operand, "f32") if _is_half(operand) else operand


def _single(value: ir.Value) -> ir.Type:
    return ir.Type.parse(str(value.type).replace(f",{element_of(value)}>", ",f32>"))

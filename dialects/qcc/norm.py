"""Normalizations over the trailing axes."""

from typing import Any, Optional

from ..bindings import Operand, Result, ext, ir
from .dialect import Qcc


class LayerNormOp(Qcc.Operation, name="layer_norm", traits=[ext.Pure]):
    """
    (x - mean) / sqrt(var + epsilon) * weight + bias over the last `axes` axes.

    Mean and (biased) variance in fp32 over each row.
    """

    input: Operand[Any]
    epsilon: ir.FloatAttr
    axes: ir.IntegerAttr
    result: Result[Any]
    weight: Optional[Operand[Any]] = None
    bias: Optional[Operand[Any]] = None


class RmsNormOp(Qcc.Operation, name="rms_norm", traits=[ext.Pure]):
    """x / sqrt(mean(x^2) + epsilon) * weight over the last `axes` axes, in fp32."""

    input: Operand[Any]
    epsilon: ir.FloatAttr
    axes: ir.IntegerAttr
    result: Result[Any]
    weight: Optional[Operand[Any]] = None

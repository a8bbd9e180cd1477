"""
Spell the tanh approximation of GELU in elementary torch ops.

    torch.aten.gelu %x, "tanh"   =>   0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))

torch-mlir's own decomposition rounds sqrt(2 / pi) to three digits, which shows in the fourth digit
of a transformer's output.
"""

from __future__ import annotations

import math

from ..dialects.bindings import Operation, ir
from .torch_constants import string_constant

SLOPE = math.sqrt(2.0 / math.pi)
CUBIC = 0.044715


def tanh_gelu(op: Operation, source: ir.Value) -> ir.Value | None:
    """
    What `op` computes, of `source` in place of its operand, made before it.

    None where `op` is not this approximation.
    """
    if string_constant(op.operands[1]) != "tanh":
        return None
    square = _make("mul.Tensor", source, source)
    slope = _plus(_times(square, SLOPE * CUBIC), SLOPE)
    bent = _make("tanh", _make("mul.Tensor", source, slope))
    return _make("mul.Tensor", _times(source, 0.5), _plus(bent, 1.0))


def _times(value: ir.Value, factor: float) -> ir.Value:
    return _make("mul.Scalar", value, _float(factor))


def _plus(value: ir.Value, term: float) -> ir.Value:
    one = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 1)
    return _make("add.Scalar", value, _float(term), _constant("int", one))


def _float(number: float) -> ir.Value:
    return _constant("float", ir.FloatAttr.get_f64(number))


def _constant(kind: str, value: ir.Attribute) -> ir.Value:
    type_ = ir.Type.parse(f"!torch.{kind}")
    return Operation.create(
        f"torch.constant.{kind}", results=[type_], attributes={"value": value}
    ).result


def _make(name: str, *operands: ir.Value) -> ir.Value:
    """An op whose result is a tensor like its first operand."""
    return Operation.create(
        f"torch.aten.{name}", results=[operands[0].type], operands=operands
    ).result

"""Ops that bring values in and move them between formats: param, quantize, dequantize."""

from typing import Any

from ..bindings import Operand, Result, ext, ir
from .dialect import Qcc, format_is_known, format_spelling, is_packed, logical_type


class ParamOp(Qcc.Operation, name="param", traits=[ext.Pure]):
    """
    A parameter or buffer of the model, by name; its bytes live outside the IR.

    The result is a plain tensor, or `!qcc.packed` once the parameter has a format.
    """

    symbol: ir.StringAttr
    value: Result[Any]

    def verify_invariants(self) -> bool:
        return format_is_known(self.location, self.value.type)


class QuantizeOp(Qcc.Operation, name="quantize", traits=[ext.Pure]):
    """
    codes, scales = encode(source) in the format of the result type, blocks along the last axis.

    Rounding, scale rule and clamping are the format's own; scales are computed from the very
    values of `source` (dynamic quantization).
    """

    source: Operand[Any]
    codes: Result[Any]

    def verify_invariants(self) -> bool:
        if not is_packed(self.codes.type):
            self.location.emit_error("qcc.quantize must produce a !qcc.packed value")
            return False
        if logical_type(self.codes.type) != self.source.type:
            self.location.emit_error(
                f"quantized shape {logical_type(self.codes.type)} differs from {self.source.type}"
            )
            return False
        return format_is_known(self.location, self.codes.type)


class DequantizeOp(Qcc.Operation, name="dequantize", traits=[ext.Pure]):
    """value = decode(codes), exact: every code of every format is an fp32 value."""

    codes: Operand[Any]
    value: Result[Any]

    def verify_invariants(self) -> bool:
        if format_spelling(self.codes.type) is None:
            self.location.emit_error("qcc.dequantize needs a !qcc.packed operand")
            return False
        if logical_type(self.codes.type) != self.value.type:
            self.location.emit_error(
                f"decoded shape {logical_type(self.codes.type)} differs from {self.value.type}"
            )
            return False
        return True

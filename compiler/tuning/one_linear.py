"""A program of one linear layer, as `qcc compile` would have it."""

from __future__ import annotations

from dataclasses import dataclass

from ...dialects.bindings import ir
from .layer_data import HALF_ULP, LayerData, layer_data


@dataclass(frozen=True, slots=True)
class OneLinear:
    """
    A linear layer on `m` rows of x, numbers of type `held`; `activations` is the format that these
    are rounded to.
    """

    n: int
    k: int
    m: int
    weights: str
    activations: str = ""
    held: str = "f32"

    @property
    def text(self) -> str:
        x, w = f"tensor<{self.m}x{self.k}x{self.held}>", f"tensor<{self.n}x{self.k}xf32>"
        y = f"tensor<{self.m}x{self.n}xf32>"
        weight = w if self.weights == "fp32" else f'!qcc.packed<{w}, "{self.weights}">'
        rounding, rounded = rounding_text(x, self.activations)
        return f"""
        func.func @main(%x: {x}) -> {y} {{
          %w = "qcc.param"() {{symbol = "w"}} : () -> {weight}
          {rounding}
          %y = "qcc.linear"({rounded}, %w)
            {{layer = "w", operandSegmentSizes = array<i32: 1, 1, 0>}} : ({x}, {weight}) -> {y}
          return %y : {y}
        }}"""

    def data(self, module: ir.Module, unit: float = HALF_ULP) -> LayerData:
        return layer_data(module, (self.m, self.k), self.k, lambda x, w: x @ w.T, unit)


def rounding_text(x: str, activations: str) -> tuple[str, str]:
    """Ops that round %x, of type `x`, to a format, and the name of what they make."""
    if not activations:
        return "", "%x"
    packed = f'!qcc.packed<{x}, "{activations}">'
    text = f"""%q = "qcc.quantize"(%x) : ({x}) -> {packed}
          %d = "qcc.dequantize"(%q) : ({packed}) -> {x}"""
    return text, "%d"

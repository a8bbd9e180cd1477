"""A program of one linear layer, as `qcc compile` would have it, with the values that it needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dialects.bindings import ir
from ...dialects.interpreter import interpret
from ..pack import decoded_parameter, encode, in_layout, parameters_of

HALF_ULP = 2.0**-24


@dataclass(frozen=True, slots=True)
class OneLinear:
    """A linear layer on `m` rows of x; `activations` is the format that these are rounded to."""

    n: int
    k: int
    m: int
    weights: str
    activations: str = ""

    @property
    def text(self) -> str:
        x, w = f"tensor<{self.m}x{self.k}xf32>", f"tensor<{self.n}x{self.k}xf32>"
        weight = w if self.weights == "fp32" else f'!qcc.packed<{w}, "{self.weights}">'
        packed = f'!qcc.packed<{x}, "{self.activations}">'
        rounding = f"""
          %q = "qcc.quantize"(%x) : ({x}) -> {packed}
          %d = "qcc.dequantize"(%q) : ({packed}) -> {x}"""
        y = f"tensor<{self.m}x{self.n}xf32>"
        return f"""
        func.func @main(%x: {x}) -> {y} {{
          %w = "qcc.param"() {{symbol = "w"}} : () -> {weight}
          {rounding if self.activations else ""}
          %y = "qcc.linear"(%{"d" if self.activations else "x"}, %w)
            {{layer = "w", operandSegmentSizes = array<i32: 1, 1, 0>}} : ({x}, {weight}) -> {y}
          return %y : {y}
        }}"""


class LinearData:
    """
    Random weights as `module`, the program of a layer, stores them; random x; what the reference
    makes of both. `unit` is half a unit in the last place of what is multiplied.
    """

    def __init__(self, layer: OneLinear, module: ir.Module, unit: float = HALF_ULP) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((layer.m, layer.k), np.float32)
        weights = rng.standard_normal((layer.n, layer.k), np.float32)
        parameter = parameters_of(module)[0]
        self.stored = in_layout(parameter, encode(parameter, weights))
        decoded = decoded_parameter(parameter, self.stored.__getitem__)
        self._expected = interpret(module, [self.x], lambda _: decoded)[0]
        magnitude = np.abs(self.x).astype(np.float64) @ np.abs(decoded.astype(np.float64)).T
        # The reference rounds x where the program does, which may make it larger.
        self._bound = (3 * (layer.k + 2) * HALF_ULP + 2 * (unit - HALF_ULP)) * magnitude

    def wrong(self, found: np.ndarray) -> str:
        """How results differ by more than sums of any order may; empty if they do not."""
        error = np.abs(found.astype(np.float64) - self._expected)
        wrong = int(np.count_nonzero(~(error <= self._bound)))
        if not wrong:
            return ""
        return f"{wrong} of {error.size} results differ, by up to {float(np.nanmax(error)):.3g}"

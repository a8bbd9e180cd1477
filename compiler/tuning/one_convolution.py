"""A program of one convolution, as `qcc compile` would have it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import gcd, isqrt, lcm

from ...dialects.bindings import ir
from ...dialects.qcc.reference import conv2d
from ...dialects.tile.conv_problem import ConvProblem, Window
from ...dialects.tile.conv_schedule import ConvSchedule
from .layer_data import HALF_ULP, LayerData, layer_data
from .one_linear import rounding_text

BLOCKS = 2
"""Along pixels and outputs, of what an excerpt has."""
ALIGNED = 64
LONGEST = 4
"""How many times as long as high images may be that stand for a number of pixels."""


@dataclass(frozen=True, slots=True)
class OneConvolution:
    """`pixels` output pixels in all, of nearly square images; `activations` as of OneLinear."""

    window: Window
    pixels: int
    weights: str
    activations: str = ""
    images: int = 1

    @property
    def extents(self) -> tuple[int, int]:
        """Rows and columns of a result: of as many pixels, or a few more of primes."""
        pixels = max(1, self.pixels // self.images)
        rows = next(each for each in range(isqrt(pixels), 0, -1) if pixels % each == 0)
        columns = pixels // rows
        if columns <= LONGEST * rows:
            return rows, columns
        rows = isqrt(pixels)
        return rows, -(-pixels // rows)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Of image, weight and result."""
        w = self.window
        height, width = (self._before(extent, axis) for axis, extent in enumerate(self.extents))
        channels, outputs = w.channels * w.groups, w.outputs * w.groups
        return (self.images, channels, height, width), (outputs, w.channels, *w.taps), (
            self.images, outputs, w.output(height, 0), w.output(width, 1),
        )  # fmt: skip

    def _before(self, extent: int, axis: int) -> int:
        """Rows or columns of an image whose result has so many."""
        w = self.window
        span = (w.taps[axis] - 1) * w.dilation[axis] + 1
        return max(1, (extent - 1) * w.stride[axis] + span - 2 * w.padding[axis])

    @property
    def text(self) -> str:
        x, w, y = ("tensor<" + "".join(f"{size}x" for size in each) + "f32>"
                   for each in self.shapes)  # fmt: skip
        weight = f'!qcc.packed<{w}, "{self.weights}">'
        rounding, rounded = rounding_text(x, self.activations)
        window = self.window
        pairs = ", ".join(
            f"{name} = array<i64: {pair[0]}, {pair[1]}>"
            for name, pair in (("stride", window.stride), ("padding", window.padding),
                               ("dilation", window.dilation))
        )  # fmt: skip
        return f"""
        func.func @main(%x: {x}) -> {y} {{
          %w = "qcc.param"() {{symbol = "w"}} : () -> {weight}
          {rounding}
          %y = "qcc.conv2d"({rounded}, %w) {{layer = "w", {pairs}, groups = {window.groups} : i64,
            operandSegmentSizes = array<i32: 1, 1, 0>}} : ({x}, {weight}) -> {y}
          return %y : {y}
        }}"""

    def data(self, module: ir.Module, unit: float = HALF_ULP) -> LayerData:
        w = self.window
        shape = {
            "stride": w.stride,
            "padding": w.padding,
            "dilation": w.dilation,
            "groups": w.groups,
        }
        product = partial(conv2d, **shape)
        return layer_data(module, self.shapes[0], w.k, product, unit)

    def excerpt(self, problem: ConvProblem, schedule: ConvSchedule) -> OneConvolution:
        """A few blocks, and of K a few turns of the pipeline."""
        s, w = schedule, self.window
        k = s.depth * (s.stages + 1)
        unit = gcd(w.channels, ALIGNED)
        if problem.group is not None:
            unit = lcm(unit, problem.group // gcd(problem.group, w.k // w.channels))
        channels = unit * max(1, k * w.channels // w.k // unit)
        window = replace(
            w,
            channels=min(w.channels, channels),
            outputs=min(w.outputs, BLOCKS * s.block_outputs),
            groups=min(w.groups, BLOCKS),
        )
        return replace(self, window=window, pixels=min(self.pixels, BLOCKS * s.block_pixels))

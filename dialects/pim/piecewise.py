"""
Piecewise-linear functions for DPUs, which have no floats: NN-LUT (formats.md §8, methods.md §9).

    lut(x) = slope_k · x + intercept_k      for d_k ≤ x < d_(k+1)

A network of one hidden ReLU layer is such a function exactly. Without one, breakpoints are fitted:
at quantiles of |f''|^power, values by least squares. DPUs evaluate cells of equal width:

    y = base[x >> bits] + (slope[x >> bits] · (x mod 2^bits) >> shift)

in 16-bit fixed point, slopes in a byte, so that the product takes one slot (pim.mul8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log2

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError

Floats = NDArray[np.floating]
Function = Callable[[Floats], Floats]
SAMPLES = 20001
CELL_BITS = 7
"""Bits of x inside a cell: a byte with its sign."""
LARGEST = (1 << 15) - 1


def gelu(x: Floats) -> Floats:
    """x · Φ(x), the normal distribution by Abramowitz and Stegun 7.1.26 to 1.5e-7."""
    z = np.abs(x) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    terms = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
    tail = sum(a * t ** (i + 1) for i, a in enumerate(terms)) * np.exp(-z * z)
    return x * np.where(x >= 0, 1 - tail / 2, tail / 2)


FUNCTIONS: dict[str, tuple[Function, float, float]] = {
    "gelu": (gelu, -5.0, 5.0),
    "exp": (np.exp, -16.0, 0.0),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.0, 1024.0),
    "reciprocal": (lambda x: 1 / x, 1.0, 1024.0),
}
"""What is approximated, and the range in which it is."""


@dataclass(frozen=True)
class PiecewiseLinear:
    """`breaks` ascend; there is one more slope and intercept than breaks."""

    breaks: Floats
    slopes: Floats
    intercepts: Floats

    def __call__(self, x: Floats) -> Floats:
        segment = np.searchsorted(self.breaks, x, side="right")
        return self.slopes[segment] * x + self.intercepts[segment]

    @staticmethod
    def of_network(n: Floats, b: Floats, m: Floats) -> PiecewiseLinear:
        """
        Σ m_i · relu(n_i · x + b_i) as a table, exact (formats.md §8).

        A neuron that does not depend on x adds to every intercept.
        """
        constant = float((m * np.maximum(b, 0))[n == 0].sum())
        n, b, m = (each[n != 0] for each in (n, b, m))
        order = np.argsort(-b / n, kind="stable")
        n, b, m = n[order], b[order], m[order]
        count, index = len(n), np.arange(len(n))
        active = np.array([
            np.where(index < k, n > 0, n < 0) for k in range(count + 1)
        ]).reshape(count + 1, count)  # fmt: skip
        slopes, intercepts = active @ (m * n), active @ (m * b)
        return PiecewiseLinear(-b / n, slopes, intercepts + constant)

    @staticmethod
    def fitted(
        function: Function, low: float, high: float, entries: int = 16, power: float = 0.4
    ) -> PiecewiseLinear:
        """Least squares on equidistant samples, breakpoints at quantiles of |f''|^power."""
        if entries < 2 or not low < high:
            raise UsageError("pim-piecewise", f"{entries} entries from {low} to {high}")
        x = np.linspace(low, high, SAMPLES)
        y = function(x)
        density = np.abs(np.gradient(np.gradient(y, x), x)) ** power
        mass = np.cumsum(density)
        marks = np.arange(1, entries) / entries * mass[-1]
        breaks = np.interp(marks, mass, x)
        basis = np.column_stack([np.ones_like(x), x, np.maximum(x[:, None] - breaks, 0)])
        solved = np.linalg.lstsq(basis, y, rcond=None)[0]
        slopes = solved[1] + np.concatenate([[0.0], np.cumsum(solved[2:])])
        steps = np.concatenate([[0.0], np.cumsum(-solved[2:] * breaks)])
        return PiecewiseLinear(breaks, slopes, solved[0] + steps)

    def errors(self, function: Function, low: float, high: float) -> tuple[float, float]:
        """Mean and largest of |lut - f| over the range."""
        x = np.linspace(low, high, SAMPLES)
        off = np.abs(self(x) - function(x))
        return float(off.mean()), float(off.max())


@dataclass(frozen=True)
class Cells:
    """
    A function on 16-bit integers: x means `low` + x · step, y means y · unit.

    Cells of 2^bits inputs, `base` and `slope` of each; `shift` scales products of slopes.
    """

    low: float
    step: float
    unit: float
    bits: int
    shift: int
    base: NDArray[np.int16]
    slope: NDArray[np.int8]

    @staticmethod
    def of(
        function: Function, low: float, high: float, cells: int = 128, unit: float | None = None
    ) -> Cells:
        """
        The cells that join the function's values at their ends; `unit` is chosen where none is
        given.

        UsageError where so many inputs exceed 16 bits.
        """
        if cells < 1 or cells << CELL_BITS > 1 << 15:
            raise UsageError("pim-piecewise", f"{cells} cells; a table has 1 to 256")
        step = (high - low) / (cells << CELL_BITS)
        ends = function(np.linspace(low, high, cells + 1))
        unit = unit or float(np.abs(ends).max()) / LARGEST or 1.0
        levels = np.rint(ends / unit)
        rise = np.diff(levels) / (1 << CELL_BITS)
        steepest = float(np.abs(rise).max())
        shift = max(0, min(CELL_BITS, int(np.floor(log2(127 / max(steepest, 2.0**-20))))))
        if steepest * 2.0**shift > 127.5:
            unit *= steepest / 127
            levels, rise = np.rint(ends / unit), np.diff(np.rint(ends / unit)) / (1 << CELL_BITS)
        slope = np.clip(np.rint(rise * 2.0**shift), -127, 127).astype(np.int8)
        return Cells(low, step, unit, CELL_BITS, shift, levels[:-1].astype(np.int16), slope)

    def encode(self, x: Floats) -> NDArray[np.int16]:
        """Inputs as integers; those outside take the nearest end."""
        most = (len(self.base) << self.bits) - 1
        return np.clip(np.rint((x - self.low) / self.step), 0, most).astype(np.int16)

    def __call__(self, x: NDArray[np.integer]) -> NDArray[np.int16]:
        """What a DPU computes."""
        cell, inside = x >> self.bits, x.astype(np.int32) & ((1 << self.bits) - 1)
        product = self.slope[cell].astype(np.int32) * inside
        return (self.base[cell] + (product >> self.shift)).astype(np.int16)

    def decode(self, y: NDArray[np.int16]) -> Floats:
        return y * self.unit

    def errors(self, function: Function) -> tuple[float, float]:
        """Mean and largest of |y - f| over all inputs, in fixed point as it runs."""
        inputs = np.arange(len(self.base) << self.bits).astype(np.int16)
        off = np.abs(self.decode(self(inputs)) - function(self.low + inputs * self.step))
        return float(off.mean()), float(off.max())

    def bound(self, function: Function) -> float:
        """The largest error of any number in the range: of the table, and of rounding inputs."""
        steepest = float(np.abs(self.slope.astype(np.int32)).max()) * self.unit / 2**self.shift
        return self.errors(function)[1] + steepest / 2

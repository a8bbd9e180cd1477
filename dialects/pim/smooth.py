"""
Smooth functions of single numbers, each a line of SMOOTH, and what DPUs make of them: cells.

The host rounds numbers to 16 bits, DPUs evaluate cells, the host scales. Beyond its table a
function is a line, or a step, which the host gives; `bound` counts what that leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .piecewise import CELL_BITS, Cells, Function, gelu

Floats = NDArray[np.float32]
TAILS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "relu": lambda x: np.maximum(x, 0),
    "step": lambda x: np.where(x > 0, 1.0, 0.0),
    "sign": np.sign,
}
"""What functions are beyond their tables; NaN stays NaN."""
CELLS = 256


@dataclass(frozen=True)
class Smooth:
    """A function, the largest number of its table, which is even, and what it is beyond."""

    function: Function
    high: float
    tail: str

    @property
    def low(self) -> float:
        return -self.high

    def samples(self, count: int = 1001) -> Floats:
        """Numbers of its table and beyond."""
        return np.linspace(2 * self.low, 2 * self.high, count, dtype=np.float32)


def sigmoid(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return 0.5 * (1 + np.tanh(0.5 * x))


def softplus(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.logaddexp(x, 0)


def gelu_of_tanh(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return x * sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


SMOOTH = {
    "gelu": Smooth(gelu, 5.0, "relu"),
    "gelu_tanh": Smooth(gelu_of_tanh, 5.0, "relu"),
    "quick_gelu": Smooth(lambda x: x * sigmoid(1.702 * x), 7.0, "relu"),
    "silu": Smooth(lambda x: x * sigmoid(x), 12.0, "relu"),
    "mish": Smooth(lambda x: x * np.tanh(softplus(x)), 12.0, "relu"),
    "softplus": Smooth(softplus, 11.0, "relu"),
    "sigmoid": Smooth(sigmoid, 11.0, "step"),
    "tanh": Smooth(np.tanh, 5.5, "sign"),
}


@dataclass(frozen=True)
class Elementwise:
    """
    A function of single numbers by one table: rows of one number, as row_functions.py has it.

    Where it is x beyond the table, the unit of results is half a step of x.
    """

    table: Cells = field(compare=False)
    tail: str

    columns = 1
    widths = (1, 1)
    kinds = ("si16", "si16")
    method = "piecewise"

    @staticmethod
    def of(name: str) -> Elementwise:
        smooth = SMOOTH[name]
        half = smooth.high / (CELLS << CELL_BITS) if smooth.tail == "relu" else None
        table = Cells.of(smooth.function, smooth.low, smooth.high, CELLS, half)
        return Elementwise(table, smooth.tail)

    @property
    def tables(self) -> tuple[Cells, ...]:
        return (self.table,)

    @property
    def high(self) -> float:
        return self.table.low + self.table.step * (len(self.table.base) << self.table.bits)

    def bound(self, smooth: Smooth) -> float:
        """The largest error of any number, rounding of inputs and tails included."""
        beyond = np.linspace(1, 4, 1001) * smooth.high
        tails = [np.abs(smooth.function(x) - TAILS[self.tail](x)).max() for x in (beyond, -beyond)]
        return max(self.table.bound(smooth.function), *map(float, tails))

    def rows_of(self, x: Floats) -> Floats:
        return x.reshape(-1, 1)

    def encode(self, x: Floats) -> NDArray[np.int16]:
        return self.table.encode(np.where(self._inside(x), x, np.float32(self.table.low)))

    def __call__(self, codes: NDArray[np.int16]) -> NDArray[np.int16]:
        return self.table(codes)

    def decode(self, found: NDArray[np.int16], x: Floats) -> Floats:
        beyond = np.where(np.isnan(x), x, TAILS[self.tail](x))
        return np.where(self._inside(x), self.table.decode(found), beyond).astype(np.float32)

    def _inside(self, x: Floats) -> NDArray[np.bool_]:
        return (x >= self.table.low) & (x < self.high)

"""The numbers that a program of one layer is tried with, and what the reference makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ...dialects.bindings import ir
from ...dialects.interpreter import interpret
from ..element_types import numpy_dtype
from ..layers import entry_function
from ..pack import decoded_parameter, encode, in_layout, parameters_of

HALF_ULP = 2.0**-24
Product = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of the input and the decoded weight, in any precision."""


@dataclass(frozen=True)
class LayerData:
    """
    Inputs and stored tensors; the result `expected`, from which each may be `bound` away. With
    `picked` these are so many rows of the result alone.
    """

    inputs: list[np.ndarray]
    stored: Mapping[str, np.ndarray]
    expected: np.ndarray
    bound: np.ndarray
    picked: np.ndarray | None = None

    def wrong(self, found: np.ndarray) -> str:
        """How results differ by more than sums of any order may; empty if they do not."""
        rows = found if self.picked is None else found[self.picked]
        error = np.abs(rows.astype(np.float64).reshape(self.expected.shape) - self.expected)
        wrong = int(np.count_nonzero(~(error <= self.bound)))
        if not wrong:
            return ""
        return f"{wrong} of {error.size} results differ, by up to {float(np.nanmax(error)):.3g}"


def layer_data(
    module: ir.Module, shape: tuple[int, ...], terms: int, product: Product, unit: float = HALF_ULP
) -> LayerData:
    """
    Random x of `shape` and weights as `module`, the program of a layer, has and stores them.

    Results are sums of `terms` products; `unit` is half a unit in the last place of what is
    multiplied.
    """
    rng = np.random.default_rng(0)
    held = ir.RankedTensorType(entry_function(module).regions[0].blocks[0].arguments[0].type)
    x = rng.standard_normal(shape, np.float32).astype(numpy_dtype(str(held.element_type)))
    parameter = parameters_of(module)[0]
    weights = rng.standard_normal(parameter.shape, np.float32)
    stored = in_layout(parameter, encode(parameter, weights))
    decoded = decoded_parameter(parameter, stored.__getitem__)
    expected = interpret(module, [x], lambda _: decoded)[0]
    magnitude = product(np.abs(x.astype(np.float64)), np.abs(decoded.astype(np.float64)))
    # The reference rounds x where the program does, which may make it larger.
    bound = (3 * (terms + 2) * HALF_ULP + 2 * (unit - HALF_ULP)) * magnitude
    return LayerData([x], stored, expected, bound)

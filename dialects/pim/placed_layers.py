"""The layers of a plan with their weights: what a call of one gives, whoever adds the integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fused import Evaluation, FusedLinear, Words
from .layer import Layer
from .linear import HeldWeights, Sums
from .plan import Plan

Floats = NDArray[np.float32]
Parts = Callable[[str], Mapping[str, NDArray[Any]]]
"""The stored arrays of a parameter by role, as Format.encode_rows makes them."""
Adding = Callable[[Layer, HeldWeights], Sums]
"""Who sums up a layer; asked once for each."""
Evaluating = Callable[[Layer, FusedLinear, HeldWeights, Words], Evaluation]
"""Who computes a layer and its function, of the words of its rows; asked once for each."""


class PlacedLayers:
    """
    Called with a layer's place, inputs [..., k] and bias, gives its result [..., n].

    Where a layer has kernels for many tokens and for one, that which takes less time by the cycle
    model runs. Without `adding`, NumPy adds: the result is the same.
    """

    def __init__(
        self,
        plan: Plan,
        parts: Parts,
        adding: Adding | None = None,
        evaluating: Evaluating | None = None,
    ) -> None:
        self._evaluating, self._evaluations = evaluating, dict[str, Evaluation]()
        self._layers: dict[tuple[str, str], list[Layer]] = {}
        for layer in plan.layers:
            self._layers.setdefault((layer.layer, layer.parameter), []).append(layer)
        self._parts, self._adding = parts, adding
        self._held, self._sums = cache(self._hold), cache(self._sum)

    def __call__(
        self, place: tuple[str, str], source: Floats, bias: Floats | None = None
    ) -> Floats:
        rows = source.size // max(1, source.shape[-1])
        layer = min(self._layers[place], key=lambda each: each.milliseconds(rows))
        if layer.function is not None:
            return self._fused(layer, FusedLinear(layer.linear, layer.function), source, bias)
        sums = self._sums(layer.name) if self._adding else None
        return layer.linear(source, self._held(place), bias, sums)

    def _fused(
        self, layer: Layer, fused: FusedLinear, source: Floats, bias: Floats | None
    ) -> Floats:
        """The bias is a parameter: DPUs are given that of the first call."""
        held = self._held(layer.place)
        if self._evaluating and layer.name not in self._evaluations:
            words = fused.row_words(held, bias)
            self._evaluations[layer.name] = self._evaluating(layer, fused, held, words)
        return fused(source, held, bias, self._evaluations.get(layer.name))

    def _hold(self, place: tuple[str, str]) -> HeldWeights:
        return self._layers[place][0].linear.held(self._parts(place[1]))

    def _sum(self, name: str) -> Sums:
        assert self._adding
        every = (layer for layers in self._layers.values() for layer in layers)
        layer = next(layer for layer in every if layer.name == name)
        return self._adding(layer, self._held((layer.layer, layer.parameter)))

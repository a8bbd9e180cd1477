"""Running a program on emulated DPUs: layers there by the emitted C, all else by machine code."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ...codegen.upmem.execute import Emulated
from ...codegen.upmem.execute_plan import EmulatedPlan
from ...codegen.upmem.program import UpmemCode
from ...dialects.bindings import ir
from ...dialects.context import make_context
from ...dialects.interpreter import interpret
from ...dialects.interpreter.pim_function import function_rule
from ...dialects.interpreter.pim_linear import linear_rule
from ...dialects.pim.execute import kernel_sums
from ...dialects.pim.function_forms import Evaluation
from ...dialects.pim.functions import PlacedFunction, PlacedFunctions
from ...dialects.pim.fused import Evaluation as FusedEvaluation
from ...dialects.pim.fused import FusedLinear, Words, fused_constants, fused_evaluation
from ...dialects.pim.layer import Layer
from ...dialects.pim.layout import constant_arrays
from ...dialects.pim.linear import HeldWeights, Sums
from ...dialects.pim.placed_layers import Adding, Evaluating, PlacedLayers
from ...dialects.pim.plan import Launched, Plan
from ..pack import decoded_parameter, parameters_of
from ..running import Caches, Running, RunningCode
from .build import kernels_of

Tensor = Callable[[str], np.ndarray]
MOST_RESIDENT = 64
"""DPUs that are emulated each by itself, with all that the plan keeps in their MRAM."""


def placed_layers(
    plan: Plan, tensor: Tensor, adding: Adding | None = None, evaluating: Evaluating | None = None
) -> PlacedLayers:
    """The layers of DPUs on stored tensors."""
    formats = {layer.parameter: layer.linear for layer in plan.layers}

    def parts(symbol: str) -> Mapping[str, np.ndarray]:
        linear = formats[symbol]
        roles = linear.weight.part_specs(linear.n, linear.k)
        return {role: tensor(f"{symbol}/{role}") for role in roles}

    return PlacedLayers(plan, parts, adding, evaluating)


class UpmemRunning(Running):
    """
    A partitioned program with its tensors; `workers` emulators work at a time.

    Few DPUs of the timed emulator keep their MRAM from layer to layer, as the plan lays it out;
    else one emulator stands for many DPUs, one after another.
    """

    def __init__(self, code: UpmemCode, tensor: Tensor, folder: Path, workers: int) -> None:
        self.code, self._tensor, self._lock = code, tensor, threading.RLock()
        self._context = make_context()
        self._module = ir.Module.parse(code.module, self._context)
        with self._context:
            kernels = kernels_of(self._module)

        @cache
        def emulated(kernel: str) -> Emulated:
            with self._context:
                return Emulated(kernels[kernel], folder, code.rung, workers=workers)

        self._emulated, self._resident = emulated, None
        if code.rung == "rv32" and code.plan.dpus <= MOST_RESIDENT:
            self._resident = EmulatedPlan(code.plan, kernels, folder, workers)
        self._layers = placed_layers(code.plan, tensor, self._sums, self._fused)
        self._functions = PlacedFunctions(code.plan.functions, self._function)
        self._linear = {(each.layer, each.parameter): each.linear for each in code.plan.layers}
        self._host = RunningCode(code.host, tensor, workers, self._answer)

    def _sums(self, layer: Layer, weights: HeldWeights) -> Sums:
        dpus = self._resident
        if dpus is not None:
            with self._context:
                dpus.load(layer, constant_arrays(layer.share, weights.codes))
            return kernel_sums(layer.share, partial(self._launch, layer), weights.codes)
        return kernel_sums(layer.share, self._emulated(layer.kernel), weights.codes)

    def _fused(
        self, layer: Layer, fused: FusedLinear, weights: HeldWeights, rows: Words
    ) -> FusedEvaluation:
        if self._resident is None:
            run = self._emulated(layer.kernel)
            return fused_evaluation(layer.share, fused, run, weights, rows)
        with self._context:
            self._resident.load(layer, fused_constants(layer.share, fused, weights, rows))
        run = partial(self._launch, layer)
        return fused_evaluation(layer.share, fused, run, weights, rows)

    def _function(self, function: PlacedFunction) -> Evaluation:
        if self._resident is None:
            return function.by(self._emulated(function.kernel))
        with self._context:
            self._resident.load(function, function.constants())
        return function.by(partial(self._launch, function))

    def _launch(self, layer: Launched, arrays: Mapping[str, np.ndarray]) -> None:
        assert self._resident
        with self._context:
            self._resident.run(layer, arrays)

    def _answer(self, number: int, input: int, rows: int, other: int, result: int) -> None:
        """
        A call of the host's code; arrays are at these addresses. `other` is that of a bias or 0,
        of a function the columns, and `rows` its numbers.
        """
        place = self.code.host.device_calls[number]
        if not rows:
            return
        if place in self._functions:
            shape = rows // other, other
            _floats(result, *shape)[:] = self._functions(place, _floats(input, *shape))
            return
        linear = self._linear[place]
        given = _floats(other, linear.n) if other else None
        found = self._layers(place, _floats(input, rows, linear.k), given)
        _floats(result, rows, linear.n)[:] = found

    def call(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with self._lock:
            return self._host.call(inputs)

    def reproduced(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with self._lock, self._context, ir.Location.unknown():
            stored = {each.symbol: each for each in parameters_of(self._module)}
            return interpret(
                self._module,
                inputs,
                lambda symbol: decoded_parameter(stored[symbol], self._tensor),
                rules={
                    "pim.linear": linear_rule(self._layers),
                    "pim.function": function_rule(self._functions),
                },
            )

    @property
    def steps(self) -> bool:
        return self._host.steps

    def caches(self, batch: int) -> Caches:
        return self._host.caches(batch)

    def step(self, tokens: np.ndarray, caches: Any, *, last_only: bool = False) -> list[np.ndarray]:
        with self._lock:
            return self._host.step(tokens, caches, last_only=last_only)

    def close(self) -> None:
        """Emulators end with the object."""
        self._host.close()


def _floats(address: int, *shape: int) -> np.ndarray:
    pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(pointer, shape)

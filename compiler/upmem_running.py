"""Running a program on emulated DPUs: layers there by the emitted C, all else interpreted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..codegen.upmem.execute import Emulated
from ..codegen.upmem.program import UpmemCode
from ..dialects.bindings import ir
from ..dialects.context import make_context
from ..dialects.errors import UsageError
from ..dialects.interpreter import interpret
from ..dialects.interpreter.frame import Rule
from ..dialects.interpreter.pim_linear import linear_rule
from ..dialects.pim.execute import kernel_sums
from ..dialects.pim.linear import Sums
from ..dialects.pim.plan import Layer, Plan
from .pack import decoded_parameter, parameters_of
from .running import Caches, Running
from .upmem_build import kernels_of

Tensor = Callable[[str], np.ndarray]


def pim_rules(
    plan: Plan, tensor: Tensor, sums: Callable[[Layer], Sums] | None = None
) -> dict[str, Rule]:
    """The rules of what DPUs do, on stored tensors; `sums` as `linear_rule` has it."""
    formats = {layer.parameter: layer.linear for layer in plan.layers}

    def parts(symbol: str) -> Mapping[str, np.ndarray]:
        linear = formats[symbol]
        roles = linear.weight.part_specs(linear.n, linear.k)
        return {role: tensor(f"{symbol}/{role}") for role in roles}

    return {"pim.linear": linear_rule(plan, parts, sums)}


class UpmemRunning(Running):
    """A partitioned program with its tensors; `workers` emulators work at a time."""

    def __init__(self, code: UpmemCode, tensor: Tensor, folder: Path, workers: int) -> None:
        self.code, self._tensor, self._lock = code, tensor, threading.Lock()
        self._context = make_context()
        self._module = ir.Module.parse(code.module, self._context)
        with self._context:
            self._parameters = {each.symbol: each for each in parameters_of(self._module)}
            self._kernels = kernels_of(self._module)

        @cache
        def emulated(kernel: str) -> Emulated:
            return Emulated(self._kernels[kernel], folder, code.rung, workers=workers)

        self._emulated = emulated
        self._rules = pim_rules(code.plan, tensor, self._sums)

    def _sums(self, layer: Layer) -> Sums:
        return kernel_sums(layer.share, self._emulated(layer.kernel))

    def call(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with self._lock, self._context, ir.Location.unknown():
            return interpret(self._module, inputs, self._decoded, rules=self._rules)

    def _decoded(self, symbol: str) -> np.ndarray:
        return decoded_parameter(self._parameters[symbol], self._tensor)

    @property
    def steps(self) -> bool:
        return False

    def caches(self, batch: int) -> Caches:
        raise _no_steps()

    def step(self, tokens: np.ndarray, caches: Any, *, last_only: bool = False) -> list[np.ndarray]:
        raise _no_steps()

    def close(self) -> None:
        """The emulators end with their launches; nothing is held."""


def _no_steps() -> UsageError:
    return UsageError(
        "upmem-steps",
        "code for DPUs computes whole sequences",
        next_step="call the module, or compile for --target cpu to generate token by token",
    )

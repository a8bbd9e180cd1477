"""
Linear layers on tensor cores without a GPU: kernels are built for the machine, checked on the
emulator, and judged by what ptxas says of them and the roofline of what they move.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from ...autotune.measure.backend import Refused, Run, Values
from ...autotune.task import Task
from ...dialects.bindings import ir
from ...dialects.context import make_context
from ...dialects.tile.hardware import machine
from ...dialects.tile.problem import LinearProblem
from ...dialects.tile.schedule import Schedule, illegal
from ...dialects.tile.space import estimate, schedule_of
from ...passes.choosers import Choosers
from ...passes.round_operands import Rounding, round_operands
from ..backends import start
from ..cuda.binaries import with_binaries
from ..cuda.build import build_cuda
from ..cuda.report import cuda_report
from ..targets import Target, require_target
from .one_linear import LinearData, OneLinear

EXCERPT = 2
"""Blocks along channels and tokens of what is checked."""
SPILL_SECONDS = 1e-8
"""What a spilled byte of a thread costs; spilling kernels are rarely good."""


def cuda_layer(task: Task) -> OneLinear:
    """Of a task of the kernel `cuda.linear`."""
    n, k, tokens = (int(task.problem[name]) for name in ("n", "k", "tokens"))
    weights, _, activations = task.format.partition(" x ")
    return OneLinear(n, k, tokens, weights, activations)


class _Built(msgspec.Struct, frozen=True):
    values: dict[str, int | str]
    seconds: float


class CudaBackend:
    """`target` as `qcc compile --target` takes it, `operands` as --operands."""

    modelled = True

    def __init__(self, target: str, operands: str) -> None:
        self._target, self._operands = require_target(target), operands

    def prepare(self, task: Task) -> None:
        """What is checked differs between candidates."""

    def build(self, task: Task, values: Values) -> bytes:
        schedule, device = schedule_of(values), machine(self._target.machine)
        found: list[LinearProblem] = []

        def choose(problem: LinearProblem, _: str) -> Schedule:
            found.append(problem)
            reasons = list(illegal(problem, schedule, device))
            if reasons:
                raise Refused("; ".join(reasons))
            return schedule

        with make_context(), ir.Location.unknown():
            module = layer_module(cuda_layer(task), self._target, self._operands)
            code = with_binaries(build_cuda(module, self._target, Choosers(linear=choose)))
        report = cuda_report({"": code}, self._target) or {"kernels": []}
        linear = [row for row in report["kernels"] if row["family"] == "linear"]
        registers = max((row.get("registers") or 0 for row in linear), default=0)
        spilled = sum(row.get("spill_bytes") or 0 for row in linear)
        made = estimate(found[0], schedule, device, registers or None)
        plain = {name: value for name, value in values.items() if isinstance(value, int | str)}
        seconds = made.estimated_s + SPILL_SECONDS * spilled
        return msgspec.json.encode(_Built(plain, seconds))

    def load(self, task: Task, built: bytes) -> CudaKernel:
        made = msgspec.json.decode(built, type=_Built)
        schedule = schedule_of(made.values)
        layer = excerpt(cuda_layer(task), schedule)
        emulated = replace(self._target, emulated=True)
        return CudaKernel(layer, schedule, emulated, self._operands, made.seconds)


class CudaKernel:
    def __init__(
        self, layer: OneLinear, schedule: Schedule, target: Target, operands: str, seconds: float
    ) -> None:
        self._layer, self._schedule, self._target = layer, schedule, target
        self._operands, self._seconds = operands, seconds

    def check(self) -> str:
        """The results of an excerpt, by the emulator."""
        with make_context(), ir.Location.unknown():
            module = layer_module(self._layer, self._target, self._operands)
            chosen = Choosers(linear=lambda problem, _: self._schedule)
            code = build_cuda(module, self._target, chosen)
            unit = 2.0**-11 if self._operands == "f16" else 2.0**-8
            data = LinearData(self._layer, module, unit)
        running = start(code, self._target, data.stored.__getitem__, 1)
        try:
            return data.wrong(running.call([data.x])[0])
        finally:
            running.close()

    def run(self) -> Run:
        return Run(self._seconds)

    def close(self) -> None:
        """Nothing is held."""


def layer_module(layer: OneLinear, target: Target, operands: str) -> ir.Module:
    """In the current context, rounded as in a compiled model."""
    module = ir.Module.parse(layer.text)
    round_operands(Rounding(operands, target.machine))(module.operation, None)
    return module


def excerpt(layer: OneLinear, schedule: Schedule) -> OneLinear:
    """A few blocks of a layer, and of K a few turns of the ring of stages."""
    steps = schedule.splits * (schedule.stages + 1)
    return replace(
        layer,
        n=min(layer.n, EXCERPT * schedule.channels),
        k=min(layer.k, steps * schedule.depth),
        m=min(layer.m, EXCERPT * schedule.tokens),
    )

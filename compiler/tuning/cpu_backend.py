"""Linear layers on this processor: built as a program of one layer, timed in this process."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

import msgspec
import numpy as np

from ...autotune.measure.backend import Refused, Run, Values
from ...autotune.task import Task
from ...codegen.cpu.code import build_code
from ...codegen.cpu.features import host_features
from ...codegen.cpu.program import Code
from ...dialects.bindings import ir
from ...dialects.context import make_context
from ...dialects.cpu.schedule import LinearProblem, LinearSchedule, illegal
from ...dialects.cpu.space import schedule_of
from ...dialects.interpreter import interpret
from ...passes.assign_schedules import assign_schedules
from ...passes.permute_weights import permute_weights
from ..pack import Parameter, decoded_parameter, encode, in_layout, parameters_of
from ..running import RunningCode

HALF_ULP = 2.0**-24


@dataclass(frozen=True, slots=True)
class CpuLinear:
    """A linear layer on `m` rows of x; `activations` is the format that these are rounded to."""

    n: int
    k: int
    m: int
    weights: str
    activations: str = ""

    @property
    def problem(self) -> LinearProblem:
        return LinearProblem(self.n, self.k, self.weights, integers=bool(self.activations))

    @property
    def text(self) -> str:
        """The program, without a schedule."""
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


def cpu_linear(task: Task) -> CpuLinear:
    """Of a task of the kernel `cpu.linear`."""
    n, k, m = (int(task.problem[name]) for name in ("n", "k", "m"))
    weights, _, activations = task.format.partition(" x ")
    return CpuLinear(n, k, m, weights, activations)


class CpuBackend:
    """`threads` run a kernel; every one is built for the instruction sets of this processor."""

    modelled = False

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._data: _Data | None = None

    def prepare(self, task: Task) -> None:
        self._data = _Data(cpu_linear(task))

    def build(self, task: Task, values: Values) -> bytes:
        layer, schedule = cpu_linear(task), schedule_of(values)
        reasons = list(illegal(layer.problem, schedule, frozenset(host_features())))
        if reasons:
            raise Refused("; ".join(reasons))
        with make_context(), ir.Location.unknown():
            code = build_code(_module(layer, schedule))
        return msgspec.msgpack.encode((code.as_json(), code.object))

    def load(self, task: Task, built: bytes) -> CpuKernel:
        described, object_ = msgspec.msgpack.decode(built)
        assert self._data is not None
        return CpuKernel(Code.from_json(described, object_), self._data, self._threads)


class CpuKernel:
    def __init__(self, code: Code, data: _Data, threads: int) -> None:
        self._data = data
        self._running = RunningCode(code, data.stored.__getitem__, threads)

    def check(self) -> str:
        """Every result within what fp32 sums of any order may differ."""
        found = self._running.call([self._data.x])[0]
        error = np.abs(found.astype(np.float64) - self._data.expected)
        wrong = int(np.count_nonzero(~(error <= self._data.bound)))
        if not wrong:
            return ""
        return f"{wrong} of {error.size} results differ, by up to {float(np.nanmax(error)):.3g}"

    def run(self) -> Run:
        before = _switches()
        start = time.perf_counter()
        self._running.call([self._data.x])
        seconds = time.perf_counter() - start
        return Run(seconds, disturbed=_switches() > before)

    def close(self) -> None:
        self._running.close()


class _Data:
    """Random weights as they are stored, random x, and the reference's results."""

    def __init__(self, layer: CpuLinear) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((layer.m, layer.k), np.float32)
        weights = rng.standard_normal((layer.n, layer.k), np.float32)
        with make_context(), ir.Location.unknown():
            module = _module(layer, None)
            parameter: Parameter = parameters_of(module)[0]
            self.stored = in_layout(parameter, encode(parameter, weights))
            decoded = decoded_parameter(parameter, self.stored.__getitem__)
            self.expected = interpret(module, [self.x], lambda _: decoded)[0]
        magnitude = np.abs(self.x).astype(np.float64) @ np.abs(decoded.astype(np.float64)).T
        # Rounding x to a format may make any of its values larger, by no more than half.
        self.bound = 3 * (layer.k + 2) * HALF_ULP * magnitude


def _module(layer: CpuLinear, schedule: LinearSchedule | None) -> ir.Module:
    """In the current context, weights laid out as in a compiled model."""
    module = ir.Module.parse(layer.text)
    permute_weights(module.operation)
    if schedule is not None:
        assign_schedules({"w": schedule})(module.operation, None)
    return module


def _switches() -> int:
    """How often this process lost a processor that it could use."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

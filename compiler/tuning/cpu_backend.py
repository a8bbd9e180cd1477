"""Linear layers on this processor: built as a program of one layer, timed in this process."""

from __future__ import annotations

import resource
import time

import msgspec

from ...autotune.measure.backend import Refused, Run, Values
from ...autotune.task import Task
from ...codegen.cpu.code import build_code
from ...codegen.cpu.features import host_features
from ...codegen.cpu.program import Code
from ...dialects.bindings import ir
from ...dialects.context import make_context
from ...dialects.cpu.schedule import LinearProblem, LinearSchedule, illegal
from ...dialects.cpu.space import schedule_of
from ...passes.assign_schedules import assign_schedules
from ...passes.permute_weights import permute_weights
from ..running import RunningCode
from .layer_data import LayerData
from .one_linear import OneLinear


def cpu_linear(task: Task) -> tuple[OneLinear, LinearProblem]:
    """Of a task of the kernel `cpu.linear`."""
    n, k, m = (int(task.problem[name]) for name in ("n", "k", "m"))
    weights, _, activations = task.format.partition(" x ")
    problem = LinearProblem(n, k, weights, integers=bool(activations))
    return OneLinear(n, k, m, weights, activations), problem


class CpuBackend:
    """`threads` run a kernel; every one is built for the instruction sets of this processor."""

    modelled = False

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._data: LayerData | None = None

    def prepare(self, task: Task) -> None:
        layer, _ = cpu_linear(task)
        with make_context(), ir.Location.unknown():
            self._data = layer.data(_module(layer, None))

    def build(self, task: Task, values: Values) -> bytes:
        (layer, problem), schedule = cpu_linear(task), schedule_of(values)
        reasons = list(illegal(problem, schedule, frozenset(host_features())))
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
    def __init__(self, code: Code, data: LayerData, threads: int) -> None:
        self.data = data
        self.running = RunningCode(code, data.stored.__getitem__, threads)

    def check(self) -> str:
        """Every result within what fp32 sums of any order may differ."""
        return self.data.wrong(self.running.call(self.data.inputs)[0])

    def run(self) -> Run:
        before = _switches()
        start = time.perf_counter()
        self.running.call(self.data.inputs)
        seconds = time.perf_counter() - start
        return Run(seconds, disturbed=_switches() > before)

    def close(self) -> None:
        self.running.close()


def _module(layer: OneLinear, schedule: LinearSchedule | None) -> ir.Module:
    """In the current context, weights laid out as in a compiled model."""
    module = ir.Module.parse(layer.text)
    permute_weights(module.operation)
    if schedule is not None:
        assign_schedules({"w": schedule})(module.operation, None)
    return module


def _switches() -> int:
    """How often this process lost a processor that it could use."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

"""
Kernels for tensor cores without a GPU: built for the machine, checked on the emulator, and judged
by what ptxas says of them and the roofline of what they move.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from ...autotune.measure.backend import Refused, Run, Values
from ...autotune.task import Task
from ...codegen.cuda.program import CudaCode
from ...dialects.tile.hardware import machine
from ...dialects.tile.register_model import Resources
from ..backends import start
from ..cuda.binaries import with_binaries
from ..cuda.report import cuda_report
from ..targets import Target, require_target
from .cuda_families import FAMILIES, Family
from .cuda_tasks import Layer


class _Built(msgspec.Struct, frozen=True):
    values: dict[str, int | str]
    seconds: float
    resources: dict[str, int]


def built_code(
    task: Task, values: Values, target: Target, operands: str
) -> tuple[CudaCode, Any, Any]:
    """
    The code of one layer with the schedule of `values`, its problem and the schedule.

    Raises Refused for a schedule that cannot be built.
    """
    family, device = FAMILIES[task.kernel], machine(target.machine)
    schedule = family.schedule_of(values)
    found: list[Any] = []

    def choose(problem: Any, _: str) -> Any:
        found.append(problem)
        reasons = list(family.illegal(problem, schedule, device))
        if reasons:
            raise Refused("; ".join(reasons))
        return schedule

    code = family.layer(task).code(choose, target, operands)
    return with_binaries(code), found[0], schedule


def problem_of(task: Task, target: Target, operands: str) -> Any:
    """What the kernel of a task is chosen for."""
    family = FAMILIES[task.kernel]
    found: list[Any] = []

    def choose(problem: Any, name: str) -> Any:
        found.append(problem)
        return family.default(problem, name)

    family.layer(task).code(choose, target, operands)
    return found[0]


class CudaBackend:
    """`target` as `qcc compile --target` takes it, `operands` as --operands."""

    modelled = True

    def __init__(self, target: str, operands: str) -> None:
        self._target, self._operands = require_target(target), operands

    def prepare(self, task: Task) -> None:
        """What is checked differs between candidates."""

    def build(self, task: Task, values: Values) -> bytes:
        family, device = FAMILIES[task.kernel], machine(self._target.machine)
        code, problem, schedule = built_code(task, values, self._target, self._operands)
        told = tuned_resources(code, family, self._target)
        made = family.estimate(problem, task, schedule, device, told)
        plain = {name: value for name, value in values.items() if isinstance(value, int | str)}
        return msgspec.json.encode(_Built(plain, made.estimated_s, counted(told)))

    def load(self, task: Task, built: bytes) -> CudaKernel:
        made, family = msgspec.json.decode(built, type=_Built), FAMILIES[task.kernel]
        schedule = family.schedule_of(made.values)
        problem = problem_of(task, self._target, self._operands)
        excerpt = family.layer(task).excerpt(problem, schedule)
        emulated = replace(self._target, emulated=True)
        return CudaKernel(excerpt, schedule, emulated, self._operands, made)


class CudaKernel:
    def __init__(
        self, layer: Layer, schedule: Any, target: Target, operands: str, built: _Built
    ) -> None:
        self._layer, self._schedule, self._target = layer, schedule, target
        self._operands, self._seconds, self.resources = operands, built.seconds, built.resources

    def check(self) -> str:
        """The results of an excerpt, by the emulator."""
        code = self._layer.code(lambda *_: self._schedule, self._target, self._operands)
        data = self._layer.data(self._target, self._operands)
        running = start(code, self._target, data.stored.__getitem__, 1)
        try:
            return data.wrong(running.call(data.inputs)[0])
        finally:
            running.close()

    def run(self) -> Run:
        return Run(self._seconds)

    def close(self) -> None:
        """Nothing is held."""


def tuned_resources(code: CudaCode, family: Family, target: Target) -> Resources | None:
    """The most registers of a thread and all bytes that spilled; None where nobody counted."""
    report = cuda_report({"": code}, target) or {"kernels": []}
    rows = [row for row in report["kernels"] if row["kernel"].startswith(family.steps)]
    registers = max((row.get("registers") or 0 for row in rows), default=0)
    spilled = sum(row.get("spill_bytes") or 0 for row in rows)
    return Resources(registers, spilled) if registers else None


def counted(told: Resources | None) -> dict[str, int]:
    """As measurements have it; empty where nobody counted."""
    return {} if told is None else {"registers": told.registers, "spill_bytes": told.spills}

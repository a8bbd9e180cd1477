"""What `qcc tune` does for targets cuda:…: a task for each kind of tuned kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...autotune.measure.backend import BackendName
from ...autotune.task import Task
from ...autotune.tuned import Job
from ...codegen.cuda.gpu import Gpu
from ...dialects.bindings import ir
from ...dialects.tile.estimate import ESTIMATE
from ...passes.choosers import Choosers
from ..cuda.build import lower_to_launches
from ..targets import Target
from .cuda_families import FAMILIES, Family, values
from .cuda_tasks import device_text
from .model_jobs import ModelJob, Tunable

BACKEND = "qcc.compiler.tuning.cuda_backend:CudaBackend"
GPU_BACKEND = "qcc.compiler.tuning.gpu_backend:GpuBackend"


def tunable_cuda(
    module: ir.Module, target: Target, operands: str, context: int, gpu: Gpu | None = None
) -> Tunable:
    """
    The layers of a module, which has its formats, whose kernels are tuned; attention of few rows
    sees `context` keys. Without a `gpu` they are judged by what is known of the machine.
    """
    device = device_text(target.machine, "" if gpu is None else gpu.name)
    jobs = cuda_jobs(module, target, context, device)
    options = {"target": target.name, "operands": operands}
    if gpu is None:
        backend = BackendName(BACKEND, options, exclusive=False)
        return Tunable(f"static {target.machine}", backend, jobs, modelled=True)
    backend = BackendName(GPU_BACKEND, {**options, "gpu": gpu.name}, exclusive=False)
    return Tunable(lock_name(gpu), backend, jobs)


def lock_name(gpu: Gpu) -> str:
    """What tuners take turns on."""
    return f"gpu {gpu.identity}"


def cuda_jobs(module: ir.Module, target: Target, context: int, device: str) -> list[ModelJob]:
    """The most work first; kernels that differ in what no schedule depends on are one job."""
    found: dict[str, dict[Any, Any]] = {family.name: {} for family in FAMILIES.values()}

    def noting(family: Family) -> Callable[[Any, str], Any]:
        def choose(problem: Any, name: str) -> Any:
            found[family.name][problem] = family.default(problem, name)
            return found[family.name][problem]

        return choose

    choosers = Choosers(**{family.name: noting(family) for family in FAMILIES.values()})
    lower_to_launches(module, target.machine, choosers)
    jobs: dict[Task, ModelJob] = {}
    for family in FAMILIES.values():
        for problem, schedule in found[family.name].items():
            task = family.task(problem, device, context)
            made = job_of(family, task, problem, schedule, target.machine)
            jobs.setdefault(task, ModelJob(made, (), family.work(problem, task)))
    return sorted(jobs.values(), key=lambda each: -each.work)


def job_of(family: Family, task: Task, problem: Any, default: Any, machine: str) -> Job:
    space = family.space(problem, task, machine, [default])
    return Job(task, space, values(default), prior=ESTIMATE)

"""What `qcc tune` does for target upmem: a task for each kind of layer that is placed on DPUs."""

from __future__ import annotations

from ... import __version__
from ...autotune.measure.backend import BackendName
from ...autotune.task import Task
from ...autotune.tuned import Job
from ...dialects.bindings import ir
from ...dialects.knobs import Value
from ...dialects.pim.device import Device
from ...dialects.pim.host import LinearOp
from ...dialects.pim.layer import schedule_of as schedule_on
from ...dialects.pim.schedule import Schedule
from ...dialects.pim.space import ESTIMATE, KERNEL, linear_space, values_of
from ...dialects.regions import walk
from ...passes.partition_pim import layer_of
from ..upmem.device import chosen_device
from .model_jobs import ModelJob, Tunable
from .upmem_backend import pim_problem

BACKEND = "qcc.compiler.tuning.upmem_backend:UpmemBackend"


def tunable_upmem(module: ir.Module, name: str, dpus: int | None) -> Tunable:
    """The layers of a module that was partitioned; what was chosen then is the default."""
    device = chosen_device(name, dpus)
    alike: dict[tuple[Task, Schedule], list[str]] = {}
    for op in walk(module):
        if isinstance(op, LinearOp):
            schedule, rows, k, tokens = schedule_on(op.schedule)
            formats = f"{op.weight_format.value} x {op.activation.value}"
            task = upmem_task({"rows": rows, "k": k, "tokens": tokens}, formats, device)
            alike.setdefault((task, schedule), []).append(layer_of(op))
    jobs = [_job(task, default, names, device) for (task, default), names in alike.items()]
    backend = BackendName(BACKEND, {"name": name, "dpus": dpus}, exclusive=False)
    lock = f"cycle model of {device.name}"
    return Tunable(lock, backend, sorted(jobs, key=lambda each: -each.work), modelled=True)


def upmem_task(sizes: dict[str, Value], formats: str, device: Device) -> Task:
    return Task(KERNEL, sizes, formats, device_text(device), f"qcc {__version__}")


def device_text(device: Device) -> str:
    return f"{device.name}, {device.dpus} DPUs"


def _job(task: Task, default: Schedule, names: list[str], device: Device) -> ModelJob:
    problem = pim_problem(task)
    space = linear_space(problem, device, include=[default])
    job = Job(task, space, values_of(default), prior=ESTIMATE)
    return ModelJob(job, tuple(names), problem.macs * len(names))

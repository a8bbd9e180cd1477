"""What `qcc tune` does for targets cuda:…: a task for each kind of linear layer."""

from __future__ import annotations

from ... import __version__
from ...autotune.measure.backend import BackendName
from ...autotune.task import Task
from ...autotune.tune import Job
from ...dialects.bindings import ir
from ...dialects.knobs import Value
from ...dialects.tile.default_schedule import default_schedule
from ...dialects.tile.problem import LinearProblem
from ...dialects.tile.schedule import Schedule
from ...dialects.tile.space import ESTIMATE, KERNEL, linear_space, values_of
from ...passes.choosers import Choosers
from ..cuda.build import lower_to_launches
from ..targets import Target
from .model_jobs import ModelJob, Tunable

BACKEND = "qcc.compiler.tuning.cuda_backend:CudaBackend"
CODES = {"i8": "int8", "f8E4M3FN": "fp8_e4m3"}
"""The format of activations whose codes are multiplied, by the type of the operands."""


def tunable_cuda(module: ir.Module, target: Target, operands: str) -> Tunable:
    """The linear layers of a module that has its formats."""
    found: dict[LinearProblem, Schedule] = {}

    def choose(problem: LinearProblem, name: str) -> Schedule:
        found[problem] = default_schedule(problem, name)
        return found[problem]

    lower_to_launches(module, target.machine, Choosers(linear=choose))
    jobs: dict[Task, ModelJob] = {}
    for problem, schedule in found.items():
        # Layers that differ in bias and the types around them are one task.
        task = cuda_task(problem, target.machine)
        work = problem.n * problem.k * problem.tokens
        jobs.setdefault(task, ModelJob(_job(task, problem, schedule, target.machine), (), work))
    backend = BackendName(BACKEND, {"target": target.name, "operands": operands}, exclusive=False)
    most_first = sorted(jobs.values(), key=lambda each: -each.work)
    return Tunable(f"static {target.machine}", backend, most_first, modelled=True)


def cuda_task(problem: LinearProblem, name: str) -> Task:
    activations = problem.blocks or CODES.get(problem.activation, "")
    formats = f"{problem.weight} x {activations}" if activations else problem.weight
    sizes: dict[str, Value] = {"n": problem.n, "k": problem.k, "tokens": problem.tokens}
    return Task(KERNEL, sizes, formats, f"{name}, no GPU", f"qcc {__version__}")


def _job(task: Task, problem: LinearProblem, default: Schedule, name: str) -> Job:
    space = linear_space(problem, name, include=[default])
    return Job(task, space, values_of(default), prior=ESTIMATE)

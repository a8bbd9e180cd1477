"""What `qcc tune` does for target cpu: a task for each kind of linear layer of a model."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from ... import __version__
from ...autotune.measure.backend import BackendName
from ...autotune.task import Task
from ...autotune.tuned import Job
from ...codegen.cpu.convert_qcc_to_kernels import scheduled_layers
from ...codegen.cpu.features import host_features
from ...codegen.cpu.panel_linear import DIRECT_ROWS
from ...dialects.bindings import ir
from ...dialects.cpu.default_schedule import default_schedule
from ...dialects.cpu.schedule import LinearProblem, ScheduledLayer
from ...dialects.cpu.space import KERNEL, linear_space, values_of
from ..doctor import cpu_model
from .model_jobs import ModelJob, Tunable

BACKEND = "qcc.compiler.tuning.cpu_backend:CpuBackend"


def tunable_cpu(module: ir.Module, tokens: int, threads: int) -> Tunable:
    """The linear layers of a module, on `tokens` rows of x where it leaves them open."""
    backend = BackendName(BACKEND, {"threads": threads}, exclusive=True)
    jobs = cpu_jobs(scheduled_layers(module), tokens, threads)
    return Tunable(f"cpu {cpu_model()}", backend, jobs)


def cpu_jobs(layers: Iterable[ScheduledLayer], tokens: int, threads: int) -> list[ModelJob]:
    """Those with enough rows for a schedule, the most work first; equal layers once."""
    alike: dict[tuple[LinearProblem, int, int | None, str], list[str]] = {}
    for layer in layers:
        rows = tokens if layer.rows is None else layer.rows
        if rows > DIRECT_ROWS:
            key = layer.problem, rows, layer.rows, layer.activations
            alike.setdefault(key, []).append(layer.name)
    features = frozenset(host_features())
    jobs = [
        ModelJob(
            Job(
                cpu_task(problem, rows, activations, threads),
                linear_space(problem, rows, features),
                values_of(default_schedule(problem, features, known)),
            ),
            tuple(names),
            work=problem.n * problem.k * rows * len(names),
        )
        for (problem, rows, known, activations), names in alike.items()
    ]
    return sorted(jobs, key=lambda each: -each.work)


def cpu_task(problem: LinearProblem, rows: int, activations: str, threads: int) -> Task:
    return Task(
        KERNEL,
        {"n": problem.n, "k": problem.k, "m": rows, "threads": threads},
        formats(problem, activations),
        cpu_model(),
        f"qcc {__version__}, torch-mlir {version('torch-mlir')}",
    )


def formats(problem: LinearProblem, activations: str) -> str:
    """As a task spells them: those of x only where x is rounded to integers."""
    return f"{problem.spelling} x {activations}" if problem.integers else problem.spelling

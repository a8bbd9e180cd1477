"""One run of `qcc tune`: the jobs of a model, one after another, into a database."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ...autotune.database import Database, Lookup, Store
from ...autotune.database.shipped import NAME as SHIPPED
from ...autotune.database.shipped import shipped, shipped_trials
from ...autotune.measure.backend import BackendName
from ...autotune.measure.device_lock import DeviceLock
from ...autotune.measure.executors.base import Executor
from ...autotune.measure.executors.directory import DirectoryExecutor
from ...autotune.measure.executors.local import PATIENCE, LocalExecutor, Patience
from ...autotune.measure.executors.ray_cluster import RayExecutor
from ...autotune.measure.executors.shared_folder import SharedFolder
from ...autotune.measurement import Measurement
from ...autotune.prior import learns, with_prior
from ...autotune.related import Related, related
from ...autotune.search.base import Strategy
from ...autotune.stop import Confident
from ...autotune.time_limit import ENDLESS, TimeLimit
from ...autotune.tune import Stop, tune
from ...autotune.tuned import Job, Tuned, TuneOptions
from ...codegen.cuda.gpu import find_gpu
from ...dialects.errors import UnsupportedError, UsageError
from ..cache_folder import cache_folder
from ..console import Progress
from ..doctor import cpu_model
from ..tuning_database import USER
from .cuda_jobs import GPU_BACKEND, lock_name
from .model_jobs import ModelJob, Tunable

NEIGHBOURS = 4


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """
    `trials` of each task, with `resume` those in the database included; all tasks together take
    `seconds`, if that is not None; a task ends once nothing faster is left with this `confidence`.
    `executor` is "local", "directory:PATH", "ray" or "ray:ADDRESS".
    """

    trials: int = 64
    seconds: float | None = None
    seed: int = 0
    executor: str = "local"
    resume: bool = False
    confidence: float = 0.0
    builders: int = 0
    patience: Patience = PATIENCE
    memory: int = 0


def run_session(
    tunable: Tunable,
    strategy: Strategy,
    database: Database,
    options: SessionOptions,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[ModelJob, Tuned]]:
    """
    Each job as it is done, those too that no time was left for; the measurements are in `database`
    however this ends.
    """
    limit = TimeLimit.after(options.seconds, clock)
    executor = make_executor(tunable, options, limit)
    how = TuneOptions(options.trials, strategy.name, options.seed, resume=options.resume)
    told = _teller(progress, options.trials, options.resume)
    try:
        for number, model_job in enumerate(tunable.jobs):
            job = model_job.job
            progress.stage(f"{number + 1}/{len(tunable.jobs)} {job.task.work}")
            shared = replace(how, limit=limit.shared(len(tunable.jobs) - number))
            if not limit.over:
                job = _informed(job, database, strategy, modelled=tunable.modelled)
            search = with_prior(strategy, job.prior, [each.trials for each in job.others])
            stop = _rules(job, options)
            yield model_job, tune(job, search, executor, database, stop, shared, told)
    finally:
        executor.close()


def make_executor(
    tunable: Tunable, options: SessionOptions, limit: TimeLimit = ENDLESS
) -> Executor:
    """Raises UsageError for one that does not exist."""
    kind, _, rest = options.executor.partition(":")
    if kind == "local" and not rest:
        return local_executor(tunable.backend, tunable.device, options, limit)
    if kind == "directory" and rest:
        return DirectoryExecutor(SharedFolder(Path(rest)), tunable.backend)
    if kind == "ray" and (rest or options.executor == "ray"):
        make = partial(node_executor, tunable.backend, tunable.device, options)
        return RayExecutor(make, rest or None, gpu=tunable.backend.factory == GPU_BACKEND)
    raise UsageError(
        "executor-unknown",
        f"there is no executor '{options.executor}'",
        next_step="use local, directory:PATH with a folder that hosts serve, or ray[:ADDRESS]",
    )


def local_executor(
    backend: BackendName, device: str, options: SessionOptions, limit: TimeLimit = ENDLESS
) -> LocalExecutor:
    return LocalExecutor(
        backend,
        device_lock(device),
        builders=options.builders or len(os.sched_getaffinity(0)),
        patience=options.patience,
        memory=options.memory or default_memory(),
        limit=limit,
    )


def node_executor(backend: BackendName, device: str, options: SessionOptions) -> LocalExecutor:
    """On another machine than the tuner's: UnsupportedError where its times would mislead."""
    if backend.factory == GPU_BACKEND:
        return local_executor(backend, _node_gpu(backend), options)
    here = f"cpu {cpu_model()}"
    if backend.exclusive and device != here:
        raise UnsupportedError(
            "tune-node",
            f"a node is no '{device}'",
            why=f"it is '{here}'",
            next_step="tune on nodes with the tuner's model of processor",
        )
    return local_executor(backend, device, options)


def _node_gpu(backend: BackendName) -> str:
    """The lock of a node's GPU, which is the tuner's product."""
    gpu, wanted = find_gpu(), backend.options["gpu"]
    if gpu is None or gpu.name != wanted:
        raise UnsupportedError(
            "tune-node",
            f"a node has no '{wanted}'",
            why=f"it has '{gpu.name}'" if gpu else "no CUDA driver answers there",
            next_step="tune on nodes with the tuner's model of GPU",
        )
    return lock_name(gpu)


def device_lock(device: str) -> DeviceLock:
    """All tuners of a user on this machine take turns on a device."""
    name = hashlib.sha256(device.encode()).hexdigest()[:16]
    return DeviceLock(cache_folder("devices") / f"{name}.lock")


def default_memory() -> int:
    """Three quarters of the machine's: more would make it swap rather than a candidate fail."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 * 3


def _informed(job: Job, database: Database, strategy: Strategy, *, modelled: bool) -> Job:
    """
    The best that is known, the shipped one too, is tried first, then that of similar tasks; all
    trials of these teach searches that learn, but where an estimate is near the model that times.
    """
    stores: list[tuple[str, Store]] = [(USER, database), (SHIPPED, shipped())]
    best = Lookup(stores).best(job.task)
    stores.append((SHIPPED, shipped_trials()))
    found = [best, *Lookup(stores).neighbours(job.task, NEIGHBOURS)]
    others: tuple[Related, ...] = ()
    if learns(strategy) and not (modelled and job.prior):
        others = related(job.task, job.space, [store for _, store in stores])
    starts = tuple(each.measurement.values for each in found if each)
    return replace(job, starts=starts, others=others)


def _rules(job: Job, options: SessionOptions) -> list[Stop]:
    if not options.confidence:
        return []
    rng = np.random.default_rng(options.seed)
    return [Confident(job.space, rng, confidence=options.confidence)]


def _teller(progress: Progress, trials: int, resume: bool) -> Callable[[Tuned, Measurement], None]:
    def tell(tuned: Tuned, latest: Measurement) -> None:
        best = tuned.trials.best
        what = "" if best is None or best.seconds is None else f"best {best.seconds * 1e3:.3f} ms"
        done = len(tuned.trials) if resume else tuned.measured
        progress.advance(min(done, trials), trials, what)

    return tell

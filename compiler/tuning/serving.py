"""`qcc tune --serve`: this host tries candidates for tuners that share a folder with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...autotune.measure.backend import BackendName
from ...autotune.measure.executors.base import Executor
from ...autotune.measure.executors.serving import serve
from ...autotune.measure.executors.shared_folder import Job, SharedFolder
from ...codegen.cuda.gpu import find_gpu
from ..doctor import cpu_model
from . import cpu_jobs, cuda_jobs, upmem_jobs
from .session import SessionOptions, local_executor, node_executor


def serve_folder(
    path: Path, options: SessionOptions, idle: float | None, tell: Callable[[str], None]
) -> int:
    """Until no job came for `idle` seconds; how many were done."""
    return serve(SharedFolder(path), accepts, _maker(options), idle, tell)


def accepts(job: Job) -> bool:
    """
    Backends of qcc only, as whoever writes to the folder names them; the CPU's only for this model
    of processor, a GPU's only for the same product. Any host can judge kernels of DPUs and GPUs by
    models.
    """
    if job.backend.factory == cpu_jobs.BACKEND:
        return job.task.device == cpu_model()
    if job.backend.factory == cuda_jobs.GPU_BACKEND:
        gpu = find_gpu()
        return gpu is not None and job.backend.options.get("gpu") == gpu.name
    return job.backend.factory in (upmem_jobs.BACKEND, cuda_jobs.BACKEND)


def _maker(options: SessionOptions) -> Callable[[BackendName], Executor]:
    """Each task of this host's processor takes turns with its other tuners."""

    def make(backend: BackendName) -> Executor:
        if backend.factory == cuda_jobs.GPU_BACKEND:
            return node_executor(backend, "", options)
        device = f"cpu {cpu_model()}" if backend.exclusive else backend.factory
        return local_executor(backend, device, options)

    return make

"""The spaces of a model's tasks as T1 JSON, a file each, for the tuners of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...autotune.interchange.t1 import KernelFile, encode_t1
from ..publish import make_folder, publish_bytes
from .model_jobs import ModelJob, Tunable


def write_spaces(tunable: Tunable, folder: Path) -> list[dict[str, Any]]:
    """
    One file a task into `folder`, named by kernel and key, with the default schedule as default.

    Raises UnsupportedError for a rule that cannot be written as an expression.
    """
    make_folder(folder)
    return [_write(model_job, folder) for model_job in tunable.jobs]


def _write(model_job: ModelJob, folder: Path) -> dict[str, Any]:
    job = model_job.job
    path = folder / f"{job.task.kernel}-{job.task.key}.json"
    kernel = KernelFile.of(job.task, path.name, default=job.default)
    publish_bytes(path, encode_t1(job.space, kernel))
    return {"file": str(path), "task": job.task.text, "points": job.space.points}

"""The spaces of a model's tasks as T1 JSON, a file each, for the tuners of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...autotune.interchange.t1 import KernelFile, encode_t1, left_out, refused_share
from ..publish import make_folder, publish_bytes
from .model_jobs import ModelJob, Tunable


def write_spaces(tunable: Tunable, folder: Path) -> list[dict[str, Any]]:
    """
    One file a task into `folder`, named by kernel and key, with the default schedule as default.

    Rules that cannot be written as expressions are `left_out` (t1.py); `refused` is the share of
    what the others allow that these refuse.
    """
    make_folder(folder)
    return [_write(model_job, folder) for model_job in tunable.jobs]


def _write(model_job: ModelJob, folder: Path) -> dict[str, Any]:
    job = model_job.job
    path = folder / f"{job.task.kernel}-{job.task.key}.json"
    kernel = KernelFile.of(job.task, path.name, default=job.default)
    publish_bytes(path, encode_t1(job.space, kernel))
    missing = left_out(job.space)
    return {
        "file": str(path),
        "task": job.task.text,
        "points": job.space.points,
        "left_out": missing,
        "refused": refused_share(job.space) if missing else 0.0,
    }

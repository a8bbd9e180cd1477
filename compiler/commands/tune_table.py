"""What `qcc tune` found, for programs and for people."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import table

if TYPE_CHECKING:
    from ...autotune.tuned import Tuned
    from ..tuning.model_jobs import ModelJob

COLUMNS = ("task", "layers", "legal", "trials", "failed", "default", "tuned", "speedup", "note")


def tune_data(database: Path, done: list[tuple[ModelJob, Tuned]]) -> dict[str, Any]:
    return {
        "database": str(database),
        "tasks": [_row(model_job, tuned) for model_job, tuned in done],
        "untried": [tuned.job.task.work for _, tuned in done if not tuned.tried],
        "geometric_mean_speedup": _mean([tuned for _, tuned in done if tuned.tried]),
    }


def _row(model_job: ModelJob, tuned: Tuned) -> dict[str, Any]:
    return {
        "task": tuned.job.task.text,
        "key": tuned.job.task.key,
        "layers": list(model_job.layers),
        "points": tuned.job.space.points,
        "legal_share": tuned.legal_share,
        "trials": len(tuned.trials),
        "measured": tuned.measured,
        "failures": tuned.failures,
        "default_s": tuned.default_seconds,
        "tuned_s": tuned.seconds,
        "schedule": tuned.best,
        "learnt_from": _learnt(tuned),
        "is_default": tuned.kept_default,
        "stopped": tuned.stopped,
        "note": tuned.note,
    }


def _learnt(tuned: Tuned) -> list[dict[str, Any]]:
    """The tasks whose trials the search began with."""
    return [
        {"task": each.task.text, "key": each.task.key, "trials": len(each.trials)}
        for each in tuned.job.others
    ]


def _learnt_text(done: list[Tuned]) -> list[str]:
    """A line of what searches began with; none where nothing was known."""
    others = {each.task.key: len(each.trials) for tuned in done for each in tuned.job.others}
    if not others:
        return []
    tasks = f"{len(others)} similar task{'s' if len(others) > 1 else ''}"
    return [f"searches began with {sum(others.values())} trials of {tasks}: {', '.join(others)}"]


def _mean(done: list[Tuned]) -> float:
    """1 for those that keep their default."""
    return math.exp(sum(math.log(each.speedup or 1.0) for each in done) / max(1, len(done)))


def tune_text(
    model: str, database: Path, done: list[tuple[ModelJob, Tuned]], *, modelled: bool
) -> str:
    rows = [_shown(model_job, tuned) for model_job, tuned in done]
    lines = [table(rows, list(COLUMNS))]
    lines += _learnt_text([tuned for _, tuned in done if tuned.measured])
    tried = [tuned for _, tuned in done if tuned.tried]
    if not tried:
        return "\n".join([*lines, "nothing was tried: give it more time"])
    mean = f"geometric mean of speedups {_mean(tried):.3f}{', by a model' if modelled else ''}"
    return "\n".join([*lines, mean, f"next: qcc compile {model} --schedules {database} …"])


def _shown(model_job: ModelJob, tuned: Tuned) -> dict[str, str]:
    default, best = tuned.default_seconds, tuned.seconds
    return {
        "task": tuned.job.task.work,
        "layers": str(len(model_job.layers) or ""),
        "legal": f"{tuned.legal_share:.1%} of {tuned.job.space.points}",
        "trials": f"{len(tuned.trials)} ({tuned.measured} new)",
        "failed": str(sum(tuned.failures.values())),
        "default": _milliseconds(default, "failed" if tuned.tried else ""),
        "tuned": _milliseconds(best, ""),
        "speedup": f"{tuned.speedup:.2f}" if tuned.speedup else "",
        "note": tuned.note or ("the default" if tuned.kept_default else ""),
    }


def _milliseconds(seconds: float | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"{seconds * 1e3:.3f} ms"

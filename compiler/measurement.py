"""
A measurement of `qcc bench`: what was timed, under which conditions, and how long it took.

A former measurement is a baseline where the conditions are the same. The artifact may be another
one of the same model: that is what a baseline is for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from ..dialects.errors import UsageError
from .doctor import cpu_model
from .file_kind import JSON, kind_of
from .manifest import Manifest, encode_manifest

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Input(msgspec.Struct, frozen=True):
    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What was timed; `artifact` is the SHA-256 of its manifest, which has the sum of all else."""

    model: str
    recipe: str
    artifact: str
    target: str
    precision: str
    inputs: tuple[Input, ...]
    threads: int
    cpu: str


class Measurement(Subject, frozen=True, kw_only=True):
    """`spread` is the interquartile range over the median; `load_average` that of the machine."""

    runs: int
    median_s: Seconds
    spread: float
    fastest_s: float
    load_average: float


def subject_of(
    manifest: Manifest, precision: str, inputs: Sequence[np.ndarray], threads: int
) -> Subject:
    names = [value.name for value in manifest.entry.inputs]
    return Subject(
        model=str(manifest.options.get("model", "")),
        recipe=str(manifest.options.get("recipe", "")),
        artifact=hashlib.sha256(encode_manifest(manifest)).hexdigest(),
        target=manifest.target,
        precision=precision,
        inputs=tuple(
            Input(name, str(array.dtype), array.shape)
            for name, array in zip(names, inputs, strict=True)
        ),
        threads=threads,
        cpu=cpu_model(),
    )


def read_measurement(path: Path) -> Measurement:
    """What `qcc bench -o` wrote; raises UsageError for anything else."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            "baseline-unreadable",
            f"cannot read the baseline '{path}'",
            why=error.strerror or str(error),
            next_step="make one: qcc bench OUT.qcc -o B.json",
        ) from error
    try:
        return msgspec.json.decode(data, type=Measurement)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            "baseline-malformed",
            f"'{path}' is not a result of `qcc bench -o`",
            why=str(error) if kind_of(path) == JSON else f"it is {kind_of(path) or 'not JSON'}",
            next_step="make one: qcc bench OUT.qcc -o B.json",
        ) from error


def differences(baseline: Subject, now: Subject) -> list[str]:
    """What makes the times of both incomparable, in words."""
    found = [
        f"{field} is {getattr(now, field)}, the baseline has {getattr(baseline, field)}"
        for field in ("model", "target", "precision", "threads", "cpu")
        if getattr(now, field) != getattr(baseline, field)
    ]
    if now.inputs != baseline.inputs:
        given, before = (", ".join(map(str, each.inputs)) for each in (now, baseline))
        found.append(f"the inputs are {given}, the baseline has {before}")
    return found


def change(baseline: Subject, now: Subject) -> str:
    """What is new in the artifact, in words; empty where it is the baseline's own."""
    if now.artifact == baseline.artifact:
        return ""
    if now.recipe != baseline.recipe:
        return f"recipe {now.recipe}, where the baseline has {baseline.recipe}"
    return f"artifact {now.artifact[:12]}, where the baseline has {baseline.artifact[:12]}"

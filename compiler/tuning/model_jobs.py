"""What can be tuned of a model on one device."""

from __future__ import annotations

from dataclasses import dataclass

from ...autotune.measure.backend import BackendName
from ...autotune.tuned import Job


@dataclass(frozen=True, slots=True)
class ModelJob:
    """A job and the layers that it is for; `work` says how much of the model it is."""

    job: Job
    layers: tuple[str, ...]
    work: int


@dataclass(frozen=True, slots=True)
class Tunable:
    """
    `device` is what tuners take turns on; `jobs` have the most work first. Times that are
    `modelled` were taken from no clock.
    """

    device: str
    backend: BackendName
    jobs: list[ModelJob]
    modelled: bool = False

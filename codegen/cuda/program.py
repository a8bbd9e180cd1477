"""A compiled program for a GPU: its launch plan, its sources, and binaries where there are some."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...dialects.errors import QccError
from .plan import Plan


@dataclass(frozen=True)
class Source:
    """One translation unit of CUDA C++: the kernels of a family."""

    family: str
    kernels: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class CudaCode:
    """
    `constants` are arrays that the plan names; `cubins` the binaries of families, empty without a
    toolchain; `resources` a row for each kernel that was built (resources.py). `without_step` is
    why a program that could run in steps has no plan for one.
    """

    plan: Plan
    sources: tuple[Source, ...]
    constants: dict[str, np.ndarray]
    cubins: dict[str, bytes] = field(default_factory=dict)
    toolchain: str | None = None
    resources: tuple[dict[str, Any], ...] = ()
    without_step: QccError | None = None

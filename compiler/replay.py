"""Comparing a replay with golden outputs; needs neither torch nor MLIR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

TOLERANCE = 1e-4  # relative, between two orders of the same fp32 sums


def reproduced_names(names: Sequence[str]) -> list[str]:
    """The names of outputs whose host part the reference interpreter ran."""
    return [f"{name} (DPUs alone)" for name in names]


def output_errors(
    names: Sequence[str], expected: Sequence[np.ndarray], actual: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """
    Per output: the largest absolute error, and that error relative to the largest value.

    Both are infinite where the shapes differ, or NaN and infinities stand in other places.
    """
    return [
        {"name": name, **_error(e, a)} for name, e, a in zip(names, expected, actual, strict=True)
    ]


def _error(expected: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    if expected.shape != actual.shape:
        return {"max_abs_error": math.inf, "max_rel_error": math.inf}
    if expected.size == 0:
        return {"max_abs_error": 0.0, "max_rel_error": 0.0}
    with np.errstate(invalid="ignore"):  # NaN is told below, by where it stands
        wide, got = expected.astype(np.float64), actual.astype(np.float64)
        same = (wide == got) | (np.isnan(wide) & np.isnan(got))
        errors = np.where(same, 0.0, np.abs(got - wide))
    worst = float(np.max(np.where(np.isnan(errors), np.inf, errors)))
    scale = float(np.max(np.abs(wide[np.isfinite(wide)]), initial=0.0)) or 1.0
    return {"max_abs_error": worst, "max_rel_error": worst / scale}

"""Integer sums of a layer by a kernel: codes are laid out, DPUs run, results come together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layout import constant_arrays, moved_arrays, product_of
from .linear import Codes, Sums
from .reference import run_kernel
from .schedule import Share

Array = NDArray[Any]
Run = Callable[[Mapping[str, Array]], object]
"""Runs a kernel on arrays [dpus, …] by name; it writes `results`."""


def kernel_sums(share: Share, run: Run, weights: Codes) -> Sums:
    """
    The sums that `run` makes of a share's arrays: `reference_run`, or an emulator of codegen.

    What stays in MRAM is laid out once. Any number of tokens: as many launches as they need, the
    last filled up.
    """
    constants = constant_arrays(share, weights)

    def sums(activations: Codes) -> NDArray[np.int64]:
        at_once, parts = share.problem.tokens, []
        for start in range(0, len(activations), at_once):
            given = activations[start : start + at_once]
            filled = np.zeros((at_once, share.problem.k), given.dtype)
            filled[: len(given)] = given
            arrays = constants | moved_arrays(share, filled)
            run(arrays)
            parts.append(product_of(share, arrays["results"])[..., : len(given), :])
        if not parts:
            apart = (share.problem.parts,) if share.problem.group else ()
            return np.zeros((*apart, 0, share.problem.rows), np.int64)
        return np.concatenate(parts, axis=-2)

    return sums


def reference_run(kernel: Any) -> Run:
    """The NumPy meaning of a `pim.kernel`."""
    return lambda arrays: run_kernel(kernel, arrays, {})

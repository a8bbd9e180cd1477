"""Kernel Tuner's strategies, run by its own package in its simulation mode."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np

KERNEL_TUNER_STRATEGIES = (
    "genetic_algorithm", "pso", "simulated_annealing", "diff_evo", "dual_annealing",
)  # fmt: skip
"""The best of its package on these spaces at a few hundred measurements."""


def kernel_tuner_curve(path: Path, strategy: str, seed: int, budget: int) -> list[float]:
    """
    Best-so-far seconds by distinct configs of one run.

    The recording is copied first: outside of simulation Kernel Tuner would rewrite it.
    """
    tuner = import_module("kernel_tuner")
    packed = path.read_bytes()
    random.seed(seed)
    np.random.seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "space.json"
        copy.write_bytes(gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed)
        with contextlib.redirect_stdout(io.StringIO()):
            results, _ = tuner.tune_cache(
                str(copy), strategy=strategy, strategy_options={"max_fevals": budget}
            )
    return _curve(results)


def _curve(results: list[dict[str, object]]) -> list[float]:
    """Without the free revisits that its lists contain; failed configs are counted."""
    seen: set[str] = set()
    best, curve = float("inf"), []
    for result in results:
        key = str(sorted((k, v) for k, v in result.items() if isinstance(v, int)))
        if key in seen:
            continue
        seen.add(key)
        time = result.get("time")
        if isinstance(time, int | float) and "__error__" not in result:
            best = min(best, float(time) * 1e-3)
        curve.append(best)
    return curve

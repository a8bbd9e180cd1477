"""Kernel Tuner's strategies, run by its own package in its simulation mode."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import tempfile
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from qcc.autotune.interchange.kernel_tuner_cache import encode_cache
from qcc.autotune.interchange.t4 import decode_t4
from qcc.autotune.task import Task
from qcc.dialects.errors import UnsupportedError

KERNEL_TUNER_STRATEGIES = (
    "genetic_algorithm", "pso", "simulated_annealing", "diff_evo", "dual_annealing",
)  # fmt: skip
"""The best of its package on these spaces at a few hundred measurements."""


def kernel_tuner_curve(path: Path, strategy: str, seed: int, budget: int) -> list[float]:
    """
    Best-so-far seconds by distinct configs of one run on a cache file or T4 results.

    The recording is copied first: outside of simulation Kernel Tuner would rewrite it.
    """
    tuner = _package()
    cache = _cache(path)
    random.seed(seed)
    np.random.seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "space.json"
        copy.write_bytes(cache)
        results = _tuned(tuner, copy, strategy, budget)
    return _curve(results, json.loads(cache)["tune_params_keys"])


def _tuned(tuner: ModuleType, cache: Path, strategy: str, budget: int) -> list[dict[str, Any]]:
    """Raises UnsupportedError for whatever a strategy raises: some do on small spaces."""
    limits = {"max_fevals": budget}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            results, _ = tuner.tune_cache(str(cache), strategy=strategy, strategy_options=limits)
    except Exception as error:
        raise UnsupportedError(
            "peer-failed",
            f"Kernel Tuner's {strategy} failed",
            why=f"{type(error).__name__}: {error}",
        ) from error
    return results


def _package() -> ModuleType:
    try:
        return import_module("kernel_tuner")
    except ImportError as error:
        raise UnsupportedError(
            "peers-extra",
            "Kernel Tuner's strategies run in its own package",
            why=str(error),
            next_step="pip install 'qcc[peers]', or leave --kernel-tuner out",
        ) from error


def _cache(path: Path) -> bytes:
    """The recording as its simulation reads it."""
    packed = path.read_bytes()
    text = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
    if "results" not in json.loads(text):
        return text
    task = Task(path.name.split(".")[0], {})
    return encode_cache(task, [entry.measurement for entry in decode_t4(text, str(path), task)])


def _curve(results: Iterable[dict[str, Any]], knobs: Sequence[str]) -> list[float]:
    """Without the free revisits that its lists contain; failed configs are counted."""
    seen: set[tuple[Any, ...]] = set()
    best, curve = float("inf"), []
    for result in results:
        config = tuple(result[knob] for knob in knobs)
        if config in seen:
            continue
        seen.add(config)
        time = result.get("time")
        if isinstance(time, int | float) and "__error__" not in result:
            best = min(best, float(time) * 1e-3)
        curve.append(best)
    return curve

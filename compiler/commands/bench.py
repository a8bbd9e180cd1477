"""
Time an artifact on its golden inputs, or on zeros where it has none.

Prints the number of runs, the median, the spread, the load of the machine and the threads. With
--baseline, a median more than --tolerance slower than a former result exits with code 5.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dialects.errors import QccError, UsageError
from ..console import Console
from ..publish import publish_bytes

if TYPE_CHECKING:
    import numpy as np

    from ..artifact import Artifact

SUMMARY = "time an artifact"
_WARM_UP = 2
_GOLDEN = "golden/inputs.safetensors"


class PerformanceError(QccError):
    """The artifact is slower than it may be."""

    exit_code = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="OUT.qcc", type=Path)
    parser.add_argument("-n", "--runs", type=_positive, default=20, help="runs (default: 20)")
    parser.add_argument("--precision", metavar="NAME", help="which one (default: the first)")
    parser.add_argument("--inputs", metavar="X.npz", type=Path, help="time on these instead")
    parser.add_argument("-o", "--output", metavar="B.json", type=Path, help="keep the result")
    parser.add_argument("--baseline", metavar="B.json", type=Path, help="a result kept before")
    parser.add_argument(
        "--tolerance", type=float, default=0.1, metavar="T", help="allowed slowdown (default: 0.1)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    from ..api import load

    baseline = _baseline(args.baseline) if args.baseline else None
    module = load(args.artifact, precision=args.precision)
    inputs = _inputs(args)
    result = measure(lambda: module(*inputs), args.runs)
    result["precision"] = module.precision
    if args.output:
        publish_bytes(args.output, json.dumps(result).encode())
    if baseline is not None:
        _compare(result["median_s"], baseline, args.tolerance)
    console.result(result, _text(result))
    return 0


def measure(call: Callable[[], object], runs: int) -> dict[str, Any]:
    """Median and spread (the interquartile range over the median) of `runs` calls."""
    for _ in range(_WARM_UP):
        call()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    low, _, high = statistics.quantiles(seconds, n=4) if runs > 1 else (median,) * 3
    return {
        "runs": runs,
        "median_s": median,
        "spread": (high - low) / median if median else 0.0,
        "fastest_s": min(seconds),
        "load_average": os.getloadavg()[0],
        "threads": len(os.sched_getaffinity(0)),
    }


def _inputs(args: argparse.Namespace) -> list[np.ndarray]:
    from ..artifact import Artifact
    from ..npz import in_order, read_npz

    with Artifact.open(args.artifact, verify=False) as artifact:
        if args.inputs:
            names = [value.name for value in artifact.manifest.entry.inputs]
            return in_order(read_npz(args.inputs), names)
        return _golden(artifact) if _GOLDEN in artifact else _zeros(artifact)


def _golden(artifact: Artifact) -> list[np.ndarray]:
    from ..tensor_layout import unpack_tensors

    arrays = unpack_tensors(artifact.read(_GOLDEN))
    return [arrays[str(index)] for index in range(len(arrays))]


def _zeros(artifact: Artifact) -> list[np.ndarray]:
    """Zeros are valid tokens and valid numbers; a symbolic size takes its smallest value."""
    import ml_dtypes  # noqa: F401 - gives NumPy the names of its dtypes
    import numpy as np

    signature = artifact.manifest.entry
    return [
        np.zeros(
            [
                max(signature.dims[size].min, 1) if isinstance(size, str) else size
                for size in value.shape
            ],
            value.dtype,
        )
        for value in signature.inputs
    ]


def _baseline(path: Path) -> float:
    try:
        return float(json.loads(path.read_bytes())["median_s"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            "baseline-unreadable",
            f"'{path}' is not a result of `qcc bench -o`",
            why=str(error) or type(error).__name__,
        ) from error


def _compare(median: float, baseline: float, tolerance: float) -> None:
    if median > baseline * (1 + tolerance):
        raise PerformanceError(
            "slower-than-baseline",
            f"{median * 1e3:.3f} ms is {median / baseline:.2f} times the baseline",
            why=f"the baseline is {baseline * 1e3:.3f} ms, with {tolerance:.0%} allowed",
            next_step="repeat on an idle machine; then compare `qcc inspect` of both artifacts",
        )


def _text(result: dict[str, Any]) -> str:
    return (
        f"{result['precision']}: n={result['runs']} median={result['median_s'] * 1e3:.3f} ms "
        f"spread={result['spread']:.1%} fastest={result['fastest_s'] * 1e3:.3f} ms "
        f"load={result['load_average']:.2f} threads={result['threads']}"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value

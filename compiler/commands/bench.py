"""
Time an artifact on its golden inputs, or on zeros where it has none.

Prints the number of runs, the median, the spread, the load of the machine and the threads. With
--baseline, a median more than --tolerance slower than a former result exits with code 5. A result
of another model, precision, processor, number of threads or shape of inputs is no baseline.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dialects.errors import QccError, UsageError
from ..console import Console
from ..publish import publish_bytes, require_writable, spare_inputs
from .argument_types import count, slack

if TYPE_CHECKING:
    import numpy as np

    from ..artifact import Artifact
    from ..measurement import Measurement, Subject

SUMMARY = "time an artifact"
_WARM_UP = 2
_GOLDEN = "golden/inputs.safetensors"


class PerformanceError(QccError):
    """The artifact is slower than it may be."""

    exit_code = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="OUT.qcc", type=Path)
    parser.add_argument(
        "-n", "--runs", type=count, metavar="N", default=20, help="runs (default: 20)"
    )
    parser.add_argument("--precision", metavar="NAME", help="which one (default: the first)")
    parser.add_argument("--inputs", metavar="X.npz", type=Path, help="time on these instead")
    parser.add_argument("-o", "--output", metavar="B.json", type=Path, help="keep the result")
    parser.add_argument("--baseline", metavar="B.json", type=Path, help="a result kept before")
    parser.add_argument(
        "--any-baseline",
        action="store_true",
        help="compare even with one of other conditions, and say which",
    )
    parser.add_argument(
        "--tolerance", type=slack, default=0.1, metavar="T", help="allowed slowdown (default: 0.1)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    import msgspec

    from ..api import load
    from ..measurement import Measurement, read_measurement

    if args.output:
        spare_inputs(args.output, [args.artifact, args.inputs, args.baseline])
        require_writable(args.output)
    baseline = read_measurement(args.baseline) if args.baseline else None
    module = load(args.artifact, precision=args.precision)
    inputs, subject = _subject(args, module.precision)
    if baseline is not None:
        _require_comparable(baseline, subject, console, anyway=args.any_baseline)
    times = measure(lambda: module(*inputs), args.runs)
    result = Measurement(**msgspec.structs.asdict(subject), **times)
    if args.output:
        publish_bytes(args.output, msgspec.json.encode(result))
    if baseline is not None:
        _compare(result, baseline, args.tolerance)
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
    }


def _subject(args: argparse.Namespace, precision: str) -> tuple[list[np.ndarray], Subject]:
    from ..artifact import Artifact
    from ..measurement import subject_of
    from ..npz import in_order, read_npz
    from ..running import default_threads

    with Artifact.open(args.artifact, verify=False) as artifact:
        if args.inputs:
            names = [value.name for value in artifact.manifest.entry.inputs]
            inputs = in_order(read_npz(args.inputs), names)
        else:
            inputs = _golden(artifact) if _GOLDEN in artifact else _zeros(artifact)
        return inputs, subject_of(artifact.manifest, precision, inputs, default_threads())


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


def _require_comparable(
    baseline: Measurement, subject: Subject, console: Console, *, anyway: bool
) -> None:
    """Before an hour of runs: say what differs, and refuse what makes times incomparable."""
    from ..measurement import change, differences

    found = differences(baseline, subject)
    if found and not anyway:
        raise UsageError(
            "baseline-differs",
            "the baseline was measured under other conditions",
            why="; ".join(found),
            next_step="measure a new one with -o, or compare nevertheless with --any-baseline",
        )
    if found:
        console.note(f"warning: other conditions than the baseline's: {'; '.join(found)}")
    changed = change(baseline, subject)
    if changed:
        console.note(f"compared is {changed}")


def _compare(result: Measurement, baseline: Measurement, tolerance: float) -> None:
    median, former = result.median_s, baseline.median_s
    if median > former * (1 + tolerance):
        raise PerformanceError(
            "slower-than-baseline",
            f"{median * 1e3:.3f} ms is {median / former:.2f} times the baseline",
            why=f"the baseline is {former * 1e3:.3f} ms, with {tolerance:.0%} allowed",
            next_step="repeat on an idle machine; then compare `qcc inspect` of both artifacts",
        )


def _text(result: Measurement) -> str:
    return (
        f"{result.precision}: n={result.runs} median={result.median_s * 1e3:.3f} ms "
        f"spread={result.spread:.1%} fastest={result.fastest_s * 1e3:.3f} ms "
        f"load={result.load_average:.2f} threads={result.threads}"
    )

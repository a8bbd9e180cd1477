"""
Real models with their linear layers on emulated DPUs, each layer held against NumPy bit for bit.

    python -m benchmarks.pim --models [--only minilm:w4a4,smollm2:w2a4] [--tokens 8] [--json PATH]

Each model is compiled as `qcc compile --target upmem` does. Its golden inputs then run whole, and
token by token where it generates, with every layer on as many DPUs as the plan has, in the native
emulator. All sums of a layer must be those of NumPy, and the model's outputs those of the reference
interpreter, in every bit. Of the first layer of each kernel, some DPUs run in the timed emulator
too: their results must be the same, and their traces give the time beside that of the search.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load

from qcc.codegen.upmem.execute import Emulated
from qcc.codegen.upmem.program import UpmemCode
from qcc.compiler.artifact import Artifact
from qcc.compiler.backends import stored_code
from qcc.compiler.console import Silent
from qcc.compiler.driver import compile_model
from qcc.compiler.frontend.sources import open_model
from qcc.compiler.options import CompileOptions
from qcc.compiler.upmem.running import UpmemRunning
from qcc.dialects.errors import QccError
from qcc.dialects.pim.execute import kernel_sums
from qcc.dialects.pim.layer import Layer
from qcc.dialects.pim.linear import Codes, HeldWeights, Sums
from qcc.dialects.pim.timing import simulate

MODELS = {"minilm": "qcc.models.minilm:minilm", "smollm2": "qcc.models.smollm2:smollm2"}
CASES = ("minilm:w4a4", "minilm:w2a4", "smollm2:w4a4", "smollm2:w2a4")
TIMED = 4
"""DPUs of a kernel that run in the timed emulator."""


class Differs(QccError):
    """Emulated DPUs computed something else than NumPy."""


@dataclass
class Sample:
    """What the first DPUs of a kernel were given, and what they left."""

    arrays: dict[str, np.ndarray]
    results: np.ndarray


@dataclass
class Watched:
    """What ran: sums compared by layer, a sample of each kernel, seconds in emulators."""

    sums: dict[str, int] = field(default_factory=dict)
    samples: dict[str, Sample] = field(default_factory=dict)
    seconds: float = 0.0

    def run(self, layer: Layer, emulated: Emulated, arrays: Mapping[str, np.ndarray]) -> None:
        began = time.perf_counter()
        emulated(arrays)
        self.seconds += time.perf_counter() - began
        if layer.kernel not in self.samples:
            some = {name: array[:TIMED].copy() for name, array in arrays.items()}
            self.samples[layer.kernel] = Sample(some, some["results"].copy())

    def compare(self, layer: Layer, found: np.ndarray, expected: np.ndarray) -> None:
        wrong = int(np.count_nonzero(found != expected))
        if wrong:
            raise Differs("pim-differs", f"{layer.name}: {wrong} of {found.size} sums differ")
        self.sums[layer.name] = self.sums.get(layer.name, 0) + found.size


class WatchedRunning(UpmemRunning):
    """A program on emulated DPUs whose every sum is compared with that of NumPy."""

    def __init__(self, code: UpmemCode, tensor: Any, folder: Path, watched: Watched) -> None:
        self.watched = watched
        super().__init__(code, tensor, folder, workers=2)

    def _sums(self, layer: Layer, weights: HeldWeights) -> Sums:
        emulated, watched = self._emulated(layer.kernel), self.watched
        by_dpus = kernel_sums(
            layer.share, lambda arrays: watched.run(layer, emulated, arrays), weights.codes
        )

        def sums(activations: Codes) -> np.ndarray:
            found = by_dpus(activations)
            expected = layer.linear.exact_sums(weights.codes, activations)
            watched.compare(layer, found, expected)
            return found

        return sums

    def timed_ms(self, kernel: str, folder: Path) -> float:
        """Milliseconds of a sample in the timed emulator; Differs where its results do."""
        sample, device = self.watched.samples[kernel], self.code.plan.device
        emulated = Emulated(self._emulated(kernel).kernel, folder, "rv32")
        emulated(sample.arrays)
        if not np.array_equal(sample.arrays["results"], sample.results):
            raise Differs("pim-differs", f"{kernel}: both emulators compute something else")
        runs = [simulate(each.traces, device) for each in emulated.launches]
        return max(run.milliseconds(device) for run in runs)


def run_models(cases: Sequence[str], tokens: int, folder: Path) -> Iterator[dict[str, Any]]:
    """A report of each case, a model and a recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        name, _, recipe = case.partition(":")
        path, began = folder / f"{name}-{recipe}.qcc", time.perf_counter()
        options = CompileOptions(recipe=recipe, target="upmem", tokens=tokens)
        compile_model(open_model(MODELS[name]), options, path, Silent())
        compiled = time.perf_counter() - began
        yield {"model": name, "recipe": recipe, "compile_s": compiled} | report(path, folder)


def report(path: Path, folder: Path) -> dict[str, Any]:
    """Run an artifact's golden inputs; each layer's row, what stayed, what was compared."""
    artifact = Artifact.open(path)
    (precision,) = artifact.manifest.precisions
    inputs, outputs = (
        _in_order(load(artifact.read(member)))
        for member in ("golden/inputs.safetensors", precision.outputs or "")
    )
    code, watched = stored_code(artifact, precision), Watched()
    assert isinstance(code, UpmemCode)
    running = WatchedRunning(code, artifact.tensor, folder, watched)
    began = time.perf_counter()
    found = running.reproduced(inputs)
    steps = running.in_two_steps(inputs[0]) if running.steps else None
    seconds = time.perf_counter() - began
    timed = {kernel: running.timed_ms(kernel, folder) for kernel in watched.samples}
    rows = code.plan.report()
    for row in rows:
        row |= {"timed_ms": timed.get(row["kernel"]), "sums": watched.sums.get(row["layer"], 0)}
    running.close()
    return {
        "equal": all(np.array_equal(a, b) for a, b in zip(found, outputs, strict=True)),
        "steps": steps is not None,
        "layers": rows,
        "host": [list(each) for each in code.plan.host],
        "run_s": seconds,
        "emulators_s": watched.seconds,
    }


def _in_order(tensors: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [tensors[str(number)] for number in range(len(tensors))]


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """A row for each kernel: its layers, and what one of them takes; then what stayed, and sums."""
    rows = report["layers"]
    yield f"{report['model']}, {report['recipe']}"
    yield (f"{'first layer':34}{'layers':>7}{'tokens':>7}{'method':>10}{'p':>3}{'DPUs':>6}"
           f"{'kernel ms':>10}{'timed ms':>9}{'transfer':>9}{'DMA MB':>8}{'LUT KB':>8}"
           f"{'mJ':>7}")  # fmt: skip
    for kernel in dict.fromkeys(row["kernel"] for row in rows):
        alike = [row for row in rows if row["kernel"] == kernel]
        yield _kernel_line(alike[0], len(alike))
    yield from _sums_line(rows)
    reasons = [reason for _, reason in report["host"]]
    for reason in dict.fromkeys(reasons):
        yield f"  on the host: {reasons.count(reason):4} x {reason}"
    sums = sum(row["sums"] for row in rows)
    same = "equal the interpreter's" if report["equal"] else "DIFFER from the interpreter's"
    parts = ", whole and token by token," if report["steps"] else ""
    yield f"  {sums} sums of DPUs{parts} equal NumPy's; outputs {same} bit for bit"
    yield (f"  compiled in {report['compile_s']:.0f} s, ran in {report['run_s']:.0f} s, of which "
           f"emulators {report['emulators_s']:.0f} s")  # fmt: skip


def _kernel_line(row: Mapping[str, Any], count: int) -> str:
    timed = "" if row["timed_ms"] is None else f"{row['timed_ms']:.3f}"
    return (
        f"{row['layer'][-33:]:34}{count:7}{row['for_tokens']:7}{row['method']:>10}{row['p']:3}"
        f"{row['dpus']:6}{row['kernel_ms']:10.3f}{timed:>9}"
        f"{row['to_dpu_ms'] + row['from_dpu_ms']:9.3f}{row['dma_bytes'] / 1e6:8.2f}"
        f"{row['lut_bytes'] / 1e3:8.1f}{row['joules'] * 1e3:7.1f}"
    )


def _sums_line(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a call takes in all, and a step of one token where there are kernels for it."""
    kinds = {"a call": [r for r in rows if ".step" not in r["layer"]],
             "a step": [r for r in rows if ".step" in r["layer"]]}  # fmt: skip
    for what, some in kinds.items():
        if some:
            total = {name: sum(row[name] for row in some) for name in some[0]
                     if name.endswith("_ms") and name != "timed_ms"}  # fmt: skip
            moved = total["to_dpu_ms"] + total["from_dpu_ms"]
            yield (f"  {what}: {len(some)} layers, kernels {total['kernel_ms']:.1f} ms, launches "
                   f"{total['launch_ms']:.1f}, transfers {moved:.1f}; "
                   f"DMA {sum(row['dma_bytes'] for row in some) / 1e6:.0f} MB, "
                   f"{sum(row['joules'] for row in some):.2f} J")  # fmt: skip


def write_reports(reports: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Each layer of each model, as JSON."""
    path.write_text(json.dumps(list(reports), indent=1))

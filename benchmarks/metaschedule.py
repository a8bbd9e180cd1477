"""
Linear layers on this processor: qcc's default, what `qcc tune` finds, and TVM's MetaSchedule.

    pip install 'qcc[tune,tvm]'
    python -m benchmarks.metaschedule [--trials 32] [--models MiniLM,GPT-2] [--layers 384x384]
        [--tokens 12,128] [--folder F]

Both tuners make as many trials of each layer, for one thread and weights in any order, by their own
measurements. Then the default, both winners and torch run in turns in one process, by calls of the
kernel alone; ratios are medians over the rounds. A stopped run goes on where it was, by its folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from benchmarks.console import load
from benchmarks.cpu import shapes
from benchmarks.cpu_schedules import MODELS, layers, mean
from benchmarks.peers.metaschedule import Found, Layer, MetaScheduleKernel, found, require_tvm, tune
from benchmarks.peers.peer import Copies, Variant
from benchmarks.peers.qcc_linear import KernelCall
from benchmarks.peers.torch_linear import Torch
from qcc.autotune.database import Database
from qcc.autotune.measure.backend import BackendName, Run
from qcc.autotune.measure.sampling import one_round
from qcc.autotune.search import SEARCHES
from qcc.autotune.task import Task
from qcc.autotune.tuned import Tuned
from qcc.compiler.console import Lines
from qcc.compiler.doctor import cpu_model
from qcc.compiler.tuning.cpu_backend import CpuBackend
from qcc.compiler.tuning.cpu_jobs import BACKEND, cpu_jobs
from qcc.compiler.tuning.model_jobs import ModelJob, Tunable
from qcc.compiler.tuning.session import SessionOptions, run_session
from qcc.dialects.errors import QccError

ROUNDS = 61
NAMES = ("default", "tuned", "MetaSchedule", "torch")
HEAD = "| layer | rows | of | default | tuned | MetaSchedule | torch "
HEAD += "| MetaSchedule / tuned | qcc tune took | MetaSchedule took |"


@dataclass(frozen=True, slots=True)
class Row:
    """A layer: `rounds` of seconds [rounds][NAMES], and how long each tuner took."""

    layer: Layer
    model: str
    rounds: Sequence[Sequence[float]]
    qcc_seconds: float
    peer: Found

    def over_tuned(self, name: str) -> float:
        """Its seconds over those of the tuned schedule."""
        seconds = np.array(self.rounds)
        return float(np.median(seconds[:, NAMES.index(name)] / seconds[:, NAMES.index("tuned")]))

    @property
    def text(self) -> str:
        times = " | ".join(f"{1e3 * each:.3f}" for each in np.median(self.rounds, axis=0))
        failed = f", {self.peer.failed} failed" if self.peer.failed else ""
        layer = f"{self.layer.n}x{self.layer.k} | {self.layer.m} | {self.model}"
        spent = f"{self.qcc_seconds:.0f} s | {self.peer.seconds:.0f} s{failed}"
        return f"| {layer} | {times} | {self.over_tuned('MetaSchedule'):.2f} | {spent} |"


class Timed:
    """A call of no arguments as a kernel."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def check(self) -> str:
        return ""

    def run(self) -> Run:
        start = time.perf_counter()
        self._call()
        return Run(time.perf_counter() - start)

    def close(self) -> None:
        pass


def main(words: Sequence[str] | None = None) -> int:
    options = parsed(words)
    try:
        require_tvm()
        rows = measured(options)
    except QccError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(document(rows, options.trials))
    return 0


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m benchmarks.metaschedule", description=__doc__, formatter_class=raw
    )
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--models", default="MiniLM,GPT-2")
    parser.add_argument("--layers", help="of those of the models only these, N x K")
    parser.add_argument("--tokens", default="12,128", help="rows of x")
    parser.add_argument("--folder", type=Path, default=Path("metaschedule"))
    options = parser.parse_args(words)
    if unknown := set(options.models.split(",")) - set(MODELS):
        parser.error(f"no models {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    return options


def measured(options: argparse.Namespace) -> list[Row]:
    """Both tuners, one after the other; then all kernels of each layer in turns."""
    folder = options.folder / f"{options.trials}-trials"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = chosen(options)
    done = tuned_by_qcc(jobs, folder, options.trials)
    tune([layer_of(job.job.task) for job in jobs], folder, options.trials)
    return [compared(job, tuned, seconds, folder) for job, tuned, seconds in done]


def chosen(options: argparse.Namespace) -> list[ModelJob]:
    found = []
    for rows in map(int, options.tokens.split(",")):
        found += cpu_jobs(layers(options.models.split(","), ["fp32"], rows), rows, 1)
    wanted = set(shapes(options.layers)) if options.layers else None
    sizes = [layer_of(job.job.task) for job in found]
    return [
        job
        for job, layer in zip(found, sizes, strict=True)
        if wanted is None or (layer.n, layer.k) in wanted
    ]


def tuned_by_qcc(
    jobs: list[ModelJob], folder: Path, trials: int
) -> list[tuple[ModelJob, Tuned, float]]:
    """As `qcc tune` would; the seconds of a task are kept, as it is not measured again."""
    spent_file = folder / "seconds.json"
    spent: dict[str, float] = {}
    if spent_file.exists():
        spent = msgspec.json.decode(spent_file.read_bytes(), type=dict[str, float])
    tunable = Tunable(f"cpu {cpu_model()}", BackendName(BACKEND, {"threads": 1}, True), jobs)
    database = Database(folder / "tuning.db", Console(stderr=True).print, create=True)
    options = SessionOptions(trials=trials, resume=True)
    search, progress = SEARCHES["distinctive"], Lines(sys.stderr)
    done = []
    start = time.perf_counter()
    for job, tuned in run_session(tunable, search, database, options, progress):
        now = time.perf_counter()
        if tuned.measured:
            key = tuned.job.task.key
            spent[key] = spent.get(key, 0.0) + now - start
            spent_file.write_bytes(msgspec.json.encode(spent))
        done.append((job, tuned, spent.get(tuned.job.task.key, 0.0)))
        start = time.perf_counter()
    return done


def layer_of(task: Task) -> Layer:
    n, k, m = (int(task.problem[name]) for name in ("n", "k", "m"))
    return Layer(n, k, m)


def compared(job: ModelJob, tuned: Tuned, seconds: float, folder: Path) -> Row:
    """Raises UnsupportedError where a kernel computes something else."""
    task, layer = tuned.job.task, layer_of(tuned.job.task)
    with ExitStack() as stack:
        backend = CpuBackend(1)
        backend.prepare(task)
        kernels = []
        for values in (tuned.job.default, tuned.best):
            kernel = backend.load(task, backend.build(task, values))
            stack.enter_context(closing(kernel))
            require(kernel.check(), task)
            kernels.append(Timed(KernelCall(kernel.running, kernel.running, kernel.data.inputs[0])))
        peer = MetaScheduleKernel(layer, folder)
        require(peer.check(), task)
        rounds = [one_round([*kernels, peer, torch_kernel(layer)], i) for i in range(ROUNDS)]
    told = found(layer, folder)
    return Row(layer, ", ".join(job.layers), rounds, seconds, told)


def require(wrong: str, task: Task) -> None:
    if wrong:
        raise SystemExit(f"{task.text}: {wrong}")


def torch_kernel(layer: Layer) -> Timed:
    x, w = layer.inputs()
    linear, _ = Torch().linear(Variant("fp32", 32), w, Copies(0, most=0))
    step = linear.ready(1, x)
    return Timed(lambda: step(0))


def document(rows: Sequence[Row], trials: int) -> str:
    """Markdown."""
    lines = [
        f"# `qcc tune` and MetaSchedule, {trials} trials, fp32, one thread of {cpu_model()}",
        "",
        "Milliseconds of a call, medians of rounds in which all ran in turns; load of the machine "
        f"{load()}.",
        "",
        HEAD,
        "|" + "---|" * HEAD.count(" | ") + "---|",
        *(row.text for row in rows),
        "",
    ]
    told = ", ".join(
        f"{name} {mean([row.over_tuned(name) for row in rows]):.3f}"
        for name in NAMES
        if name != "tuned"
    )
    lines += [f"Geometric mean of seconds over those of the tuned schedule: {told}", ""]
    spent = sum(row.qcc_seconds for row in rows), sum(row.peer.seconds for row in rows)
    lines.append(f"All tuning: `qcc tune` {spent[0]:.0f} s, MetaSchedule {spent[1]:.0f} s.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())

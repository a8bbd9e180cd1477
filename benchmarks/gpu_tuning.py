"""
Every kernel of the GPU suite that has schedules, tuned: default → tuned → library.

    python -m benchmarks.gpu_tuning [--minutes 8] [--trials 64] [--kinds linear,attention]
                                    [--weights int4] [--shapes 4096x4096] [--tokens 1,16]
                                    [--results FOLDER] [--static sm_90a]

Times are of the GPU that is here; of its libraries those that torch calls. Works in pieces: all
trials are in a database in FOLDER, what is finished in <gpu>-tuning.json, and the next call goes on
from there. Written are the table, <gpu>-tuning.md, and what won, <gpu>-tuned.json, which `qcc
compile --schedules` takes. Other device headers of qcc begin anew, with a database of their own.
With --static there need be no GPU: seconds are those of `qcc tune --measure static`, and there is
no library.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, log
from pathlib import Path
from typing import Any

from benchmarks.gpu import RESULTS, numbers, say, shapes
from benchmarks.gpu_cases import SHAPES, TOKENS
from benchmarks.gpu_devices import Gpu as TorchGpu
from benchmarks.gpu_peers import Torch
from benchmarks.gpu_tuned_kernels import KINDS, Tuned, subjects
from qcc.autotune.database import Collection, Database, Entry, best_of
from qcc.autotune.database.document import encode_document
from qcc.autotune.measure.backend import BackendName
from qcc.autotune.search import SEARCHES
from qcc.autotune.tune import TIME_IS_UP
from qcc.autotune.tuned import Tuned as TunedJob
from qcc.codegen.cuda.gpu import find_gpu
from qcc.codegen.cuda.sources import header_digest
from qcc.compiler.console import Lines
from qcc.compiler.publish import publish_bytes
from qcc.compiler.tuning import cuda_jobs
from qcc.compiler.tuning.cuda_families import FAMILIES
from qcc.compiler.tuning.cuda_tasks import device_text
from qcc.compiler.tuning.model_jobs import ModelJob, Tunable
from qcc.compiler.tuning.session import SessionOptions, device_lock, run_session

HEAD = ("kernel", "default, µs", "tuned, µs", "default / tuned", "library", "library, µs",
        "library / default", "library / tuned")  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where kernels run: a GPU, or without one (`gpu` empty) a machine by its model."""

    machine: str
    gpu: str
    lock: str
    backend: BackendName

    @property
    def slug(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in (self.gpu or self.machine).lower())


def place_of(static: str) -> Place:
    """Raises SystemExit where there is no GPU to time kernels on."""
    if static:
        options = {"target": f"cuda:{static}", "operands": "f16"}
        backend = BackendName(cuda_jobs.BACKEND, options, exclusive=False)
        return Place(static, "", f"static {static}", backend)
    gpu = find_gpu()
    if gpu is None:
        raise SystemExit("no GPU: no CUDA driver answers\n--static sm_90a judges without one")
    options = {"target": f"cuda:{gpu.machine}", "operands": "f16", "gpu": gpu.name}
    backend = BackendName(cuda_jobs.GPU_BACKEND, options, exclusive=False)
    return Place(gpu.machine, gpu.name, cuda_jobs.lock_name(gpu), backend)


class Library:
    """Other kernels for the same, by torch on the GPU; where torch has none, nothing."""

    def __init__(self, place: Place, scratch: Path) -> None:
        self._torch: Torch | None = None
        self.missing = "" if place.gpu else "there is no GPU"
        if place.gpu:
            try:
                device = TorchGpu(scratch)
                self._torch = Torch(device._torch, device.timed)
            except (ImportError, RuntimeError, AssertionError) as error:
                self.missing = str(error).splitlines()[0]

    def fastest(self, subject: Tuned) -> tuple[str, float] | None:
        """The name of the library's kernel, and its seconds."""
        if self._torch is None:
            return None
        torch, size = self._torch, subject.bytes
        found = {
            name: torch.seconds_of(partial(make, torch.torch), size)
            for name, make in subject.libraries.items()
        }
        torch.torch.cuda.empty_cache()  # the memory is the next kernel's
        times = {name: each for name, each in found.items() if isinstance(each, float)}
        name = min(times, key=lambda each: times[each], default=None)
        return None if name is None else (name, times[name])


class Suite:
    def __init__(self, place: Place, options: argparse.Namespace) -> None:
        self.place, self.options, self.folder = place, options, options.results
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = header_digest()
        self.path = self.folder / f"{place.slug}-tuning.json"
        kept = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.state = kept if kept.get("headers") == digest else {"headers": digest, "rows": {}}
        database = self.folder / f"{place.slug}-{digest[:8]}.db"
        self.database = Database(database, create=True)

    def todo(self) -> Iterator[Tuned]:
        """Each task once, what is not finished."""
        o, seen = self.options, set(self.state["rows"])
        for each in subjects(self.place.machine, o.kinds, o.weights, o.shapes, o.tokens):
            if (key := each.task(self.device).key) not in seen:
                seen.add(key)
                yield each

    @property
    def device(self) -> str:
        return device_text(self.place.machine, self.place.gpu)

    def tuned(self, subject: Tuned, seconds: float) -> bool:
        """Whether a kernel was finished in so many seconds; its trials are kept in any case."""
        job = self.job(subject)
        tunable = Tunable(self.place.lock, self.place.backend, [job], not self.place.gpu)
        options = SessionOptions(self.options.trials, seconds, resume=True)
        strategy = SEARCHES["distinctive"]
        [(_, found)] = run_session(tunable, strategy, self.database, options, Lines(sys.stderr))
        if found.stopped == TIME_IS_UP:
            return False
        self.state["rows"][job.job.task.key] = row_of(subject, found)
        return True

    def job(self, subject: Tuned) -> ModelJob:
        family = FAMILIES[subject.kernel]
        default = family.default(subject.problem, self.place.machine)
        task = subject.task(self.device)
        made = cuda_jobs.job_of(family, task, subject.problem, default, self.place.machine)
        return ModelJob(made, (), family.work(subject.problem, task))

    def compared(self, subject: Tuned, library: Library) -> None:
        with device_lock(self.place.lock).held():
            found = library.fastest(subject)
        self.state["rows"][subject.task(self.device).key]["library"] = found

    def write(self) -> None:
        """In one go, so that what is finished is in the files at any time."""
        publish_bytes(self.path, json.dumps(self.state, indent=1).encode() + b"\n")
        table = document(self.place, self.state["rows"])
        publish_bytes(self.path.with_suffix(".md"), table.encode())

    def write_winners(self) -> None:
        """For `qcc compile --schedules`."""
        kept = ((task, best_of(self.database.measurements(task))) for task in self.database.tasks())
        entries = [Entry(task, best) for task, best in kept if best is not None]
        found = encode_document(Collection(entries))
        publish_bytes(self.folder / f"{self.place.slug}-tuned.json", found)


def row_of(subject: Tuned, found: TunedJob) -> dict[str, Any]:
    """Seconds of default and winner; the default's where nothing was clearly faster."""
    return {
        "kernel": subject.kernel, "name": subject.name, "trials": len(found.trials),
        "failed": sum(found.failures.values()), "default": found.default_seconds,
        "tuned": found.seconds, "note": found.note, "library": None,
    }  # fmt: skip


def document(place: Place, rows: dict[str, dict[str, Any]]) -> str:
    """The table as Markdown, a part for each kernel, and geometric means."""
    where = place.gpu or f"{place.machine}, as modelled: no GPU has run this"
    lines = [f"# Tuned kernels on {where}", "", "Written by `python -m benchmarks.gpu_tuning`."]
    for kernel in dict.fromkeys(row["kernel"] for row in rows.values()):
        own = [row for row in rows.values() if row["kernel"] == kernel]
        lines += ["", f"## {kernel}", "", _line(HEAD), "|" + "---|" * len(HEAD)]
        lines += [_line(_cells(row)) for row in own]
        pairs = (("default", "tuned"), ("library", "default"), ("library", "tuned"))
        means = [_mean([_ratio(row, *pair) for row in own]) for pair in pairs]
        lines.append(_line(("geometric mean", "", "", means[0], "", "", *means[1:])))
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    name, seconds = row["library"] or ("", None)
    return (
        f"`{row['name']}`", _microseconds(row["default"]), _microseconds(row["tuned"]),
        _shown(_ratio(row, "default", "tuned")), name, _microseconds(seconds),
        _shown(_ratio(row, "library", "default")), _shown(_ratio(row, "library", "tuned")),
    )  # fmt: skip


def _ratio(row: dict[str, Any], above: str, below: str) -> float | None:
    times = {**row, "library": row["library"][1] if row["library"] else None}
    return times[above] / times[below] if times[above] and times[below] else None


def _mean(ratios: Sequence[float | None]) -> str:
    known = [each for each in ratios if each]
    return _shown(exp(sum(map(log, known)) / len(known)) if known else None)


def _shown(ratio: float | None) -> str:
    return f"{ratio:.2f}" if ratio else "-"


def _microseconds(seconds: float | None) -> str:
    return f"{1e6 * seconds:.4g}" if seconds else "-"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(words: Sequence[str] | None = None) -> int:
    options = parse(words)
    place = place_of(options.static)
    suite, end = Suite(place, options), time.monotonic() + 60 * options.minutes
    todo, done = list(suite.todo()), 0
    with tempfile.TemporaryDirectory(prefix="qcc-gpu-") as scratch:
        library = Library(place, Path(scratch))
        if library.missing:
            say(f"no library is timed: {library.missing}")
        for subject in todo:
            if time.monotonic() >= end:
                break
            say(f"{subject.kernel} {subject.name}")
            if suite.tuned(subject, end - time.monotonic()):
                suite.compared(subject, library)
                done += 1
            suite.write()
    suite.write()
    suite.write_winners()
    left = len(todo) - done
    say(f"{done} kernels done, {left} left" + ("; call again to go on" if left else ""))
    sys.stdout.write(document(place, suite.state["rows"]))
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8, help="stop after so many")
    parser.add_argument("--trials", type=int, default=64, help="of each kernel")
    parser.add_argument("--kinds", type=_kinds, default=KINDS, help=f"of {','.join(KINDS)}")
    parser.add_argument("--weights", default="", help="of linear layers, only formats so begun")
    parser.add_argument("--shapes", type=shapes, default=SHAPES, help="N x K of linear layers")
    parser.add_argument("--tokens", type=numbers, default=TOKENS, help="M of linear layers")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--static", default="", metavar="MACHINE", help="judge without a GPU")
    return parser.parse_args(words)


def _kinds(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if unknown := set(found) - set(KINDS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: none of {KINDS}")
    return found


if __name__ == "__main__":
    sys.exit(main())

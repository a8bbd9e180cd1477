"""
Kernels of qcc on this GPU: all checked, then timed beside other kernels and the GPU's limits.

    python -m benchmarks.gpu [--minutes 8] [--weights int4] [--shapes 4096x4096] [--tokens 1,16]
                             [--results FOLDER] [--device gpu|emulate] [--target sm_90a]
                             [--kinds attention] [--sanitize] [--check-only]

Works in pieces: what is done is kept in FOLDER/<gpu>.json, and the next call goes on from there.
Results of other sources of qcc's kernels are measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import gpu_kernels
from benchmarks.gpu_cases import (
    CHECKED_SHAPES,
    CHECKED_TOKENS,
    SHAPES,
    TOKENS,
    emitted,
    key,
    problems,
    random_case,
)
from benchmarks.gpu_devices import Device, Emulator, Gpu
from benchmarks.gpu_kernels import KINDS, Subject
from benchmarks.gpu_launches import Call, Trial, array_bytes
from benchmarks.gpu_peers import PEERS, Torch
from benchmarks.gpu_table import document
from qcc.codegen.cuda.sources import header_digest
from qcc.dialects.errors import QccError
from qcc.dialects.tile.problem import LinearProblem

RESULTS = Path(__file__).parent / "results"
CLEAN = "clean"
SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")
Work = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="qcc-gpu-") as scratch:
        device = opened(options, Path(scratch))
        suite = Suite(device, options)
        todo = list(suite.work())
        start, done = time.monotonic(), 0
        for work in todo:
            if time.monotonic() - start > 60 * options.minutes:
                break
            work()
            done += 1
            suite.write()
    suite.write()
    left = len(todo) - done
    say(f"{done} pieces done, {left} left" + ("; call again to go on" if left else ""))
    sys.stdout.write(document(suite.state))
    return int(any(not each["right"] for each in suite.state["checks"].values()))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--device", choices=("gpu", "emulate"), default="gpu")
    parser.add_argument("--target", default="sm_90a", help="what the emulator emulates")
    parser.add_argument("--minutes", type=float, default=8, help="stop after so many")
    parser.add_argument("--kinds", type=kinds, default=KINDS, help=f"of {','.join(KINDS)}")
    parser.add_argument("--weights", default="", help="of linear layers, only formats so begun")
    parser.add_argument("--shapes", type=shapes, default=SHAPES, help="N x K that are timed")
    parser.add_argument("--checked", type=shapes, default=CHECKED_SHAPES, help="N x K checked")
    parser.add_argument("--tokens", type=numbers, help="M, default 1 … 2048")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--check-only", action="store_true", help="time nothing")
    parser.add_argument("--sanitize", action="store_true", help="checks under compute-sanitizer")
    return parser.parse_args(arguments)


def shapes(text: str) -> tuple[tuple[int, int], ...]:
    """
    >>> shapes("4096x4096,11008x4096")
    ((4096, 4096), (11008, 4096))
    """
    pairs = (part.split("x") for part in text.split(","))
    return tuple((int(n), int(k)) for n, k in pairs)


def kinds(text: str) -> tuple[str, ...]:
    """
    >>> kinds("attention,conv2d")
    ('attention', 'conv2d')
    """
    found = tuple(text.split(","))
    if unknown := set(found) - set(KINDS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: none of {KINDS}")
    return found


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def opened(options: argparse.Namespace, scratch: Path) -> Device:
    if options.device == "emulate":
        return Emulator(scratch, options.target)
    try:
        return Gpu(scratch)
    except (ImportError, RuntimeError, AssertionError) as error:
        raise SystemExit(f"no GPU: {error}\n--device emulate checks kernels without one") from error


class Suite:
    """What there is to do, and what was found; see the head of this file."""

    def __init__(self, device: Device, options: argparse.Namespace) -> None:
        self.device, self.options, self.start = device, options, time.monotonic()
        self.path = options.results / f"{device.slug}.json"
        self.torch = Torch(device._torch, device.timed) if isinstance(device, Gpu) else None
        self.state = self.read()

    def read(self) -> dict[str, Any]:
        empty: dict[str, Any] = {
            "device": self.device.name, "target": self.device.target, "headers": header_digest(),
            "checks": {}, "sanitizer": {}, "ceilings": {}, "peers": {}, "times": {}, "kernels": {},
        }  # fmt: skip
        if not self.path.exists():
            return empty
        kept = json.loads(self.path.read_text())
        same = all(kept[name] == empty[name] for name in ("headers", "target"))
        return empty | kept if same else empty

    def write(self) -> None:
        """In one go, so that what is finished is in the files at any time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for suffix, text in ((".json", json.dumps(self.state, indent=1) + "\n"),
                             (".md", document(self.state))):  # fmt: skip
            part = self.path.with_suffix(f"{suffix}.part")
            part.write_text(text, encoding="utf-8")
            part.replace(self.path.with_suffix(suffix))

    def work(self) -> Iterator[Work]:
        """Pieces that are not done yet: first what is right, then what is fast."""
        options = self.options
        yield from self.checks()
        if options.sanitize:
            yield from (partial(self.sanitize, tool) for tool in SANITIZERS
                        if self.sanitized(tool) not in self.state["sanitizer"])  # fmt: skip
        if not options.check_only:
            yield from self.comparisons()
            yield from self.measurements()

    def checks(self) -> Iterator[Work]:
        for problem in self.linear(self.options.checked, CHECKED_TOKENS):
            if key(problem) not in self.state["checks"]:
                yield partial(self.check, problem)
        for subject in gpu_kernels.checked(self.options.kinds):
            if spelled(subject) not in self.state["checks"]:
                yield partial(self.tried, subject, sampled=False)

    def measurements(self) -> Iterator[Work]:
        for problem in self.linear(self.options.shapes, self.options.tokens or TOKENS):
            if key(problem) not in self.state["times"]:
                yield partial(self.measure, problem)
        for subject in gpu_kernels.timed(self.options.kinds):
            if spelled(subject) not in self.state["kernels"]:
                yield partial(self.measure_subject, subject)

    def linear(
        self, shapes_: tuple[tuple[int, int], ...], tokens: tuple[int, ...]
    ) -> Iterator[LinearProblem]:
        if "linear" in self.options.kinds:
            yield from problems(self.device.target, shapes_, tokens, self.options.weights)

    def comparisons(self) -> Iterator[Work]:
        """The machine's limits and other kernels, where there is a GPU."""
        if not self.torch:
            return
        if not self.state["ceilings"]:
            yield self.measure_ceilings
        for n, k in self.options.shapes if "linear" in self.options.kinds else ():
            for count in self.options.tokens or TOKENS:
                if f"{n}x{k} M={count}" not in self.state["peers"]:
                    yield partial(self.measure_peers, n, k, count)

    def check(self, problem: LinearProblem) -> None:
        """One kernel against NumPy, on its number of tokens and on one more."""
        error: float | str = 0.0
        try:
            source, launch = emitted(problem, self.device.target)
            kernel = self.device.prepared(source, (Call.linear(launch, problem.tokens),))
            for tokens in (problem.tokens, problem.tokens + 1):
                case = random_case(problem, launch, tokens)
                calls = (Call.linear(launch, tokens),)
                result = self.device.result(kernel, calls, case.arguments, "y")
                error = max(float(error), case.error(result))
        except (QccError, RuntimeError) as failure:
            error = str(failure).splitlines()[0]
        self.checked(key(problem), error)

    def checked(self, name: str, error: float | str) -> bool:
        """Whether a result is right, which is kept."""
        right = isinstance(error, float) and error <= 1
        self.state["checks"][name] = {"right": right, "error": error}
        if not right:
            say(f"WRONG {name}: {error}")
        return right

    def tried(self, subject: Subject, sampled: bool) -> tuple[Any, Trial] | None:
        """Its kernels and arguments, None where they are wrong."""
        try:
            trial = subject.trial(self.device.target, sampled)
            kernels = self.device.prepared(trial.source, trial.calls)
            result = self.device.result(kernels, trial.calls, trial.given, trial.output)
        except (QccError, RuntimeError) as failure:
            self.checked(spelled(subject), str(failure).splitlines()[0])
            return None
        return (kernels, trial) if self.checked(spelled(subject), trial.error(result)) else None

    def measure_subject(self, subject: Subject) -> None:
        """Its result where it is timed, its time if that is right, and that of torch."""
        say(spelled(subject))
        if (found := self.tried(subject, sampled=True)) is None:
            return
        kernels, trial = found
        seconds = self.device.seconds(kernels, trial.calls, trial.given, trial.moved)
        make = partial(subject.peer, self.torch.torch) if self.torch else None
        self.state["kernels"][spelled(subject)] = {
            "kind": subject.kind, "name": subject.name, "math": subject.math, "bytes": trial.moved,
            "operations": subject.operations, "seconds": seconds,
            "peer": self.torch.seconds_of(make, trial.moved) if self.torch and make else None,
        }  # fmt: skip

    def sanitized(self, tool: str) -> str:
        """What is said of a tool is of the kernels that were asked for."""
        chosen = () if self.options.kinds == KINDS else self.options.kinds
        return " ".join(filter(None, (tool, ",".join(chosen), self.options.weights)))

    def sanitize(self, tool: str) -> None:
        """
        The checks again in a process of their own, watched, for as long as this call has left.

        What it has done is kept in a folder beside the results, where the next call goes on.
        """
        program, name = shutil.which("compute-sanitizer"), self.sanitized(tool)
        if program is None:
            self.state["sanitizer"][name] = "not installed"
            return
        folder = self.path.parent / f"{self.device.slug} {name}"
        command = sanitizer_command(program, tool, self.options, folder, self.minutes_left())
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ.copy())
        found = summary(done.stdout, done.returncode)
        if found == CLEAN and " 0 left" not in done.stderr:
            return
        self.state["sanitizer"][name] = found
        shutil.rmtree(folder, ignore_errors=True)

    def minutes_left(self) -> float:
        return max(0.0, self.options.minutes - (time.monotonic() - self.start) / 60)

    def measure_ceilings(self) -> None:
        assert self.torch
        self.state["ceilings"] = self.torch.ceilings()

    def measure_peers(self, n: int, k: int, tokens: int) -> None:
        assert self.torch
        say(f"peers, {n}x{k}, M = {tokens}")
        found = {name: self.torch.seconds(name, n, k, tokens) for name in PEERS}
        self.state["peers"][f"{n}x{k} M={tokens}"] = found

    def measure(self, problem: LinearProblem) -> None:
        """One kernel: its result where it is timed, and its time if that is right."""
        say(key(problem))
        source, launch = emitted(problem, self.device.target)
        calls = (Call.linear(launch, problem.tokens),)
        kernel = self.device.prepared(source, calls)
        case = random_case(problem, launch, problem.tokens, channels=16)
        error = case.error(self.device.result(kernel, calls, case.arguments, "y"))
        if error > 1:
            self.state["checks"][key(problem)] = {"right": False, "error": error}
            return
        moved = array_bytes(case.arguments)
        seconds = self.device.seconds(kernel, calls, case.arguments, moved)
        self.state["times"][key(problem)] = {
            "n": problem.n, "k": problem.k, "tokens": problem.tokens, "weight": problem.weight,
            "activation": problem.activation, "bytes": moved, "seconds": seconds,
            "schedule": vars(launch.schedule),
        }  # fmt: skip


def spelled(subject: Subject) -> str:
    return f"{subject.kind} {subject.name}"


def sanitizer_command(
    program: str, tool: str, options: argparse.Namespace, folder: Path, minutes: float
) -> list[str]:
    """The checks of the same kernels, small ones, under a tool."""
    return [
        program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "benchmarks.gpu",
        "--check-only", "--checked", "49x391,160x1040", "--kinds", ",".join(options.kinds),
        f"--weights={options.weights}", "--minutes", f"{minutes:.2f}", "--results", str(folder),
    ]  # fmt: skip


def summary(text: str, status: int) -> str:
    """
    What compute-sanitizer found.

    >>> summary("========= ERROR SUMMARY: 2 errors", 9), summary("", 0), summary("", 3)
    ('ERROR SUMMARY: 2 errors', 'clean', 'exit 3')
    """
    if status == 0:
        return CLEAN
    said = [line.strip("= ") for line in text.splitlines() if "ERROR SUMMARY" in line]
    return said[-1] if said else f"exit {status}"


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

"""
Linear kernels of qcc on this GPU: all checked, then timed beside other kernels and its limits.

    python -m benchmarks.gpu [--minutes 8] [--weights int4] [--shapes 4096x4096] [--tokens 1,16]
                             [--results FOLDER] [--device gpu|emulate] [--target sm_90a]
                             [--sanitize] [--check-only]

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

from benchmarks.gpu_cases import (
    CHECKED_SHAPES,
    CHECKED_TOKENS,
    SHAPES,
    TOKENS,
    problems,
    random_case,
    traffic,
)
from benchmarks.gpu_devices import Device, Emulator, Gpu
from benchmarks.gpu_peers import PEERS, Torch
from benchmarks.gpu_table import document
from qcc.codegen.cuda.emit import emit_source
from qcc.codegen.cuda.sources import header_digest
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import QccError
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.launch import Launch
from qcc.dialects.tile.problem import LinearProblem
from qcc.passes.linear_kernel import linear_kernel

RESULTS = Path(__file__).parent / "results"
SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")
Work = Callable[[], None]


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
    parser.add_argument("--weights", default="", help="only formats that begin so")
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
        self.device, self.options = device, options
        self.path = options.results / f"{device.slug}.json"
        self.torch = Torch(device._torch, device.timed) if isinstance(device, Gpu) else None
        self.state = self.read()

    def read(self) -> dict[str, Any]:
        empty: dict[str, Any] = {
            "device": self.device.name, "target": self.device.target, "headers": header_digest(),
            "checks": {}, "sanitizer": {}, "ceilings": {}, "peers": {}, "times": {},
        }  # fmt: skip
        if not self.path.exists():
            return empty
        kept = json.loads(self.path.read_text())
        same = all(kept[name] == empty[name] for name in ("headers", "target"))
        return kept if same else empty

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
        options, target = self.options, self.device.target
        for problem in problems(target, options.checked, CHECKED_TOKENS, options.weights):
            if key(problem) not in self.state["checks"]:
                yield partial(self.check, problem)
        if options.sanitize:
            yield from (partial(self.sanitize, tool) for tool in SANITIZERS
                        if tool not in self.state["sanitizer"])  # fmt: skip
        if not options.check_only:
            yield from self.comparisons()
            tokens = options.tokens or TOKENS
            for problem in problems(target, options.shapes, tokens, options.weights):
                if key(problem) not in self.state["times"]:
                    yield partial(self.measure, problem)

    def comparisons(self) -> Iterator[Work]:
        """The machine's limits and other kernels, where there is a GPU."""
        if not self.torch:
            return
        if not self.state["ceilings"]:
            yield self.measure_ceilings
        for n, k in self.options.shapes:
            for count in self.options.tokens or TOKENS:
                if f"{n}x{k} M={count}" not in self.state["peers"]:
                    yield partial(self.measure_peers, n, k, count)

    def check(self, problem: LinearProblem) -> None:
        """One kernel against NumPy, on its number of tokens and on one more."""
        error: float | str = 0.0
        try:
            source, launch = emitted(problem, self.device.target)
            kernel = self.device.prepared(source, launch)
            for tokens in (problem.tokens, problem.tokens + 1):
                case = random_case(problem, launch, tokens)
                result = self.device.result(kernel, launch, case.arguments)
                error = max(float(error), case.error(result))
        except (QccError, RuntimeError) as failure:
            error = str(failure).splitlines()[0]
        right = isinstance(error, float) and error <= 1
        self.state["checks"][key(problem)] = {"right": right, "error": error}
        if not right:
            say(f"WRONG {key(problem)}: {error}")

    def sanitize(self, tool: str) -> None:
        """The checks again in a process of their own, watched."""
        program = shutil.which("compute-sanitizer")
        if program is None:
            self.state["sanitizer"][tool] = "not installed"
            return
        with tempfile.TemporaryDirectory() as folder:
            command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m",
                       "benchmarks.gpu", "--check-only", "--checked", "49x391,160x1040",
                       "--minutes", "7", "--results", folder]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ.copy())
        said = [line for line in done.stdout.splitlines() if "ERROR SUMMARY" in line]
        clean = "clean" if done.returncode == 0 else f"exit {done.returncode}"
        self.state["sanitizer"][tool] = said[-1].strip("= ") if said else clean

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
        kernel = self.device.prepared(source, launch)
        case = random_case(problem, launch, problem.tokens, channels=16)
        error = case.error(self.device.result(kernel, launch, case.arguments))
        if error > 1:
            self.state["checks"][key(problem)] = {"right": False, "error": error}
            return
        moved = traffic(problem, case.arguments)
        seconds = self.device.seconds(kernel, launch, case.arguments, moved)
        self.state["times"][key(problem)] = {
            "n": problem.n, "k": problem.k, "tokens": problem.tokens, "weight": problem.weight,
            "activation": problem.activation, "bytes": moved, "seconds": seconds,
            "schedule": vars(launch.schedule),
        }  # fmt: skip


def emitted(problem: LinearProblem, target: str) -> tuple[str, Launch]:
    """The source of the layer's default kernel, and how it is launched."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            launch = linear_kernel(problem, default_schedule(problem, target), "linear", target)
        return emit_source(list(module.body.operations)), launch


def key(problem: LinearProblem) -> str:
    return f"{problem.weight} x {problem.activation} {problem.n}x{problem.k} M={problem.tokens}"


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

"""
Emitted CUDA C++ to cubins, with whatever CUDA compiler there is: no GPU, no driver.

nvcc from PATH, else nvcc from pip's wheels, else NVRTC from a wheel. A cubin is kept under the hash
of all it is made from, the version of the compiler included, and found again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ...dialects.errors import QccError
from ...dialects.tile.hardware import machine
from .compilers import Compiler, Nvcc, find_compiler
from .sources import DEVICE, header_digest

# No contraction: the emitted text says where a multiply-add is fused, and the emulator obeys too.
FLAGS = ("-std=c++17", "-fmad=false", "-lineinfo")


@dataclass(frozen=True)
class Cubin:
    """The binary of the kernels of one source for one machine, and what ptxas said about them."""

    name: str
    target: str
    code: bytes
    log: str
    compiler: str


@dataclass(frozen=True)
class Job:
    """One source to be built for one machine; `name` is that of its file."""

    name: str
    source: str
    target: str
    max_registers: int = 0  # of a thread; 0: as __launch_bounds__ allows


def build(job: Job, folder: Path, compiler: Compiler | None = None) -> Cubin:
    """
    The cubin of `job`, from `folder` if it was built before.

    Raises UnsupportedError for an unknown machine, ResourceError without a compiler, and
    QccError("cuda-build") where the compiler refuses: with the kernel, the line of the source, and
    the folder of a reproducer.
    """
    machine(job.target)
    compiler = compiler or find_compiler()
    kept = folder / f"{job.name}-{job.target}-{_digest(job, compiler)}"
    if found := _read(kept, job):
        return found
    outcome = compiler.compile(job.source, job.name, flags_of(job))
    if outcome.code is None:
        raise _refusal(job, compiler, outcome.log)
    cubin = Cubin(job.name, job.target, outcome.code, outcome.log, compiler.version)
    _write(kept, cubin)
    return cubin


def build_all(
    jobs: Sequence[Job], folder: Path, workers: int = 0, compiler: Compiler | None = None
) -> list[Cubin]:
    """The cubins of `jobs` in their order, `workers` at a time (0: one for each processor)."""
    compiler = compiler or find_compiler()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(lambda job: build(job, folder, compiler), jobs))


def flags_of(job: Job) -> tuple[str, ...]:
    """
    What the compiler is told about a job.

    >>> flags_of(Job("k", "", "sm_90a"))[-2:]
    ('-arch=sm_90a', '-Xptxas=-v')
    """
    limit = (f"-maxrregcount={job.max_registers}",) if job.max_registers else ()
    return (*FLAGS, *limit, f"-arch={job.target}", "-Xptxas=-v")


def _digest(job: Job, compiler: Compiler) -> str:
    parts = (job.source, header_digest(), " ".join(flags_of(job)), compiler.version)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _read(kept: Path, job: Job) -> Cubin | None:
    try:
        code = kept.with_suffix(".cubin").read_bytes()
        notes = json.loads(kept.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return None
    return Cubin(job.name, job.target, code, notes["log"], notes["compiler"])


def _write(kept: Path, cubin: Cubin) -> None:
    """The notes go last, each file at once: whoever reads meanwhile sees all or nothing."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    notes = json.dumps({"log": cubin.log, "compiler": cubin.compiler})
    for suffix, content in ((".cubin", cubin.code), (".json", notes.encode())):
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
            file.write(content)
        os.replace(file.name, kept.with_suffix(suffix))


# ---- refusals


def _refusal(job: Job, compiler: Compiler, log: str) -> QccError:
    line = first_error_line(log, job.name)
    lines = job.source.splitlines()
    text = f": {lines[line - 1].strip()}" if 0 < line <= len(lines) else ""
    kernel = first_named_kernel(log) or kernel_at(job.source, line)
    inside = f"kernel '{kernel}', " if kernel else ""
    return QccError(
        "cuda-build",
        f"the emitted source of '{job.name}' does not compile for {job.target}",
        where=f"{inside}{job.name}.cu:{line}{text}",
        why=log.strip()[:4000],
        next_step=f"report it with the reproducer {_reproducer(job, compiler, log)}",
    )


def first_error_line(log: str, name: str) -> int:
    """
    The line of the source that the first error is about; 0 where none is named.

    >>> first_error_line("k.cu(7): error: identifier is undefined", "k")
    7
    """
    found = re.search(rf"{re.escape(name)}\.cu\((\d+)\)[^\n]*error", log)
    return int(found[1]) if found else 0


def kernel_at(source: str, line: int) -> str:
    """The kernel that line `line` is part of, or the only one; empty for other functions."""
    names = [(found.start(), found[1]) for found in _KERNEL.finditer(source)]
    if len(names) == 1:
        return names[0][1]
    offset = sum(len(text) + 1 for text in source.splitlines()[: line - 1])
    before = [name for start, name in names if start <= offset]
    return before[-1] if before else ""


# extern "C" __global__ void __launch_bounds__(128) name(
_KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(?!__)(\w+)\s*\(")


def first_named_kernel(log: str) -> str:
    """The kernel of ptxas's first complaint."""
    found = re.search(r"error: function '(\w+)'", log)
    return found[1] if found else ""


def _reproducer(job: Job, compiler: Compiler, log: str) -> Path:
    """A folder with the source, the headers, the command and the message."""
    folder = Path(tempfile.mkdtemp(prefix="qcc-cuda-"))
    (folder / f"{job.name}.cu").write_text(job.source)
    for header in DEVICE.glob("*.cuh"):
        (folder / header.name).write_bytes(header.read_bytes())
    command = "nvcc" if isinstance(compiler, Nvcc) else "nvrtc"
    arguments = " ".join((*flags_of(job), "-cubin", f"{job.name}.cu"))
    (folder / "command.txt").write_text(f"{command} {arguments}\n{compiler.version}\n")
    (folder / "message.txt").write_text(log)
    return folder

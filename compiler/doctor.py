"""
What `qcc doctor` finds: packages, compilers, the CPU, a GPU, memory and disk.

Nothing heavy is imported; a package's version comes from its metadata.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..codegen.cuda.compilers import find_compiler, find_program
from ..codegen.cuda.emulator.build import HOST_COMPILERS
from ..codegen.upmem.toolchain import VENDOR, candidates
from ..dialects.errors import ResourceError
from .console import bytes_text

# What installing qcc brings, and what is wanted by some.
_REQUIRED = ("torch", "torch-mlir", "numpy", "llvmlite", "lark", "ml_dtypes", "msgspec")
_OPTIONAL = {
    "gguf": "`pip install '.[models]'` in the checkout, for the models of `make demo`",
    "tokenizers": "`pip install '.[models]'` in the checkout, for the models of `make demo`",
    "scipy": "`pip install '.[tune]'` in the checkout, for the searches of `qcc tune`",
    "xgboost-cpu": "`pip install '.[tune]'` in the checkout, for the searches of `qcc tune`",
}
_CUDA_EXTRA = "pip install 'qcc[cuda]'"
_CPU_FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile")
_NEEDED_CPU_FEATURES = {"avx2", "fma", "f16c"}
_LITTLE_MEMORY = 4 << 30
_LITTLE_DISK = 2 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """`status` is ok, optional (absent and only wanted by some), poor or missing."""

    name: str
    status: str
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def examine() -> list[Finding]:
    return [
        _python(),
        *(_package(name) for name in _REQUIRED),
        *(_package(name, remedy) for name, remedy in _OPTIONAL.items()),
        _cpu(),
        _memory(),
        _disk("temporary disk", Path(tempfile.gettempdir())),
        _disk("disk here", Path.cwd()),
        *_cuda(),
        *_upmem(),
    ]


def cpu_model() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    return _fields(Path("/proc/cpuinfo")).get("model name") or platform.machine()


def _python() -> Finding:
    fits = sys.version_info[:2] == (3, 11)
    remedy = "" if fits else "use Python 3.11, which the MLIR wheel is built for"
    return Finding("python", "ok" if fits else "missing", platform.python_version(), remedy)


def _package(name: str, remedy: str = "") -> Finding:
    found = _version(name)
    if found is not None:
        return Finding(name, "ok", found)
    if remedy:
        return Finding(name, "optional", "not installed", remedy)
    return Finding(name, "missing", "not installed", "`pip install .` in the checkout of qcc")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> Finding:
    has = set(_fields(Path("/proc/cpuinfo")).get("flags", "").split())
    found = f"{os.cpu_count()} cores, {platform.machine()}, " + " ".join(
        feature for feature in _CPU_FEATURES if feature in has
    )
    lacks = sorted(_NEEDED_CPU_FEATURES - has)
    if lacks:
        return Finding("cpu", "poor", found, f"kernels will be slow without {', '.join(lacks)}")
    return Finding("cpu", "ok", found)


def _cuda() -> Iterator[Finding]:
    """What the targets cuda:… can do here: emulate, build, count instructions, run."""
    emulator = next((path for name in HOST_COMPILERS if (path := shutil.which(name))), None)
    yield _optional("cuda emulator", emulator, "install g++, for --target cuda:emulate")
    yield _optional("cuda compiler", _cuda_compiler(), f"{_CUDA_EXTRA}, or put nvcc on PATH")
    disassembler = find_program("nvdisasm")
    yield _optional(
        "nvdisasm", disassembler and str(disassembler), f"{_CUDA_EXTRA}, for instruction counts"
    )
    yield _optional("cuda-bindings", _version("cuda-bindings"), f"{_CUDA_EXTRA}, to run on a GPU")
    yield _optional("gpu", _gpu(), "--target cuda:emulate runs kernels without one")


def _upmem() -> Iterator[Finding]:
    """What the targets upmem… can do here: emulate, emulate with times, build for DPUs."""
    yield _optional("upmem emulator", shutil.which("gcc"), "install gcc, for --target upmem")
    clang = next(iter(candidates()), None)
    yield _optional(
        "upmem timed emulator",
        clang and clang.version.partition("\n")[0],
        "pip install 'qcc[pim-emu]', or put clang and ld.lld on PATH, for --target upmem:rv32",
    )
    yield _optional(VENDOR, shutil.which(VENDOR), "UPMEM's SDK builds for DPUs; no use needs it")


def _optional(name: str, found: str | None, remedy: str) -> Finding:
    status = "optional" if found is None else "ok"
    return Finding(name, status, found or "not found", remedy if found is None else "")


def _cuda_compiler() -> str | None:
    try:
        return find_compiler().version
    except ResourceError:
        return None


def _gpu() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"the driver does not answer: {error}"
    return "; ".join(answer.stdout.split("\n")).strip("; ")


def _memory() -> Finding:
    kib = _fields(Path("/proc/meminfo")).get("MemAvailable", "0").split()[0]
    free = int(kib) << 10
    if free < _LITTLE_MEMORY:
        return Finding("memory", "poor", f"{bytes_text(free)} free", "large layers may not fit")
    return Finding("memory", "ok", f"{bytes_text(free)} free")


def _disk(name: str, folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_DISK:
        return Finding(name, "poor", f"{bytes_text(free)} free", "artifacts may not fit")
    return Finding(name, "ok", f"{bytes_text(free)} free")


def _fields(path: Path) -> dict[str, str]:
    """`name : value` lines of a /proc file; the first of equal names wins."""
    return dict(reversed(list(_lines(path))))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    if path.is_file():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            yield name.strip(), value.strip()

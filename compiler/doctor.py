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

from .console import bytes_text

# Each with what it is for; the first group is what `pip install qcc` brings.
_REQUIRED = ("torch", "torch-mlir", "numpy", "llvmlite", "lark", "ml_dtypes", "msgspec")
_OPTIONAL = {
    "xgboost-cpu": "pip install 'qcc[tune]' for the learned cost model",
    "cuda-bindings": "pip install 'qcc[cuda]' to run CUDA kernels",
    "ziglang": "pip install 'qcc[pim]' to build DPU programs without a DPU toolchain",
}
_COMPILERS = {
    "nvcc": "install the CUDA toolkit to build CUDA kernels ahead of time",
    "clang": "install clang for DPU and sanitizer builds",
    "dpu-upmem-dpurte-clang": "install the UPMEM SDK to build for real DPUs",
}
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
        *(_compiler(name, remedy) for name, remedy in _COMPILERS.items()),
        _gpu(),
        _memory(),
        _disk("temporary disk", Path(tempfile.gettempdir())),
        _disk("disk here", Path.cwd()),
    ]


def cpu_model() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    return _fields(Path("/proc/cpuinfo")).get("model name") or platform.machine()


def _python() -> Finding:
    fits = sys.version_info[:2] == (3, 11)
    remedy = "" if fits else "use Python 3.11, which the MLIR wheel is built for"
    return Finding("python", "ok" if fits else "missing", platform.python_version(), remedy)


def _package(name: str, remedy: str = "") -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        if remedy:
            return Finding(name, "optional", "not installed", remedy)
        return Finding(name, "missing", "not installed", "pip install qcc")


def _cpu() -> Finding:
    has = set(_fields(Path("/proc/cpuinfo")).get("flags", "").split())
    found = f"{os.cpu_count()} cores, {platform.machine()}, " + " ".join(
        feature for feature in _CPU_FEATURES if feature in has
    )
    lacks = sorted(_NEEDED_CPU_FEATURES - has)
    if lacks:
        return Finding("cpu", "poor", found, f"kernels will be slow without {', '.join(lacks)}")
    return Finding("cpu", "ok", found)


def _compiler(name: str, remedy: str) -> Finding:
    path = shutil.which(name)
    return Finding(name, "ok", path) if path else Finding(name, "optional", "not found", remedy)


def _gpu() -> Finding:
    remedy = "only running CUDA kernels needs an NVIDIA GPU and its driver"
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding("gpu", "optional", "no NVIDIA driver found", remedy)
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("gpu", "optional", f"the driver does not answer: {error}", remedy)
    return Finding("gpu", "ok", "; ".join(answer.stdout.split("\n")).strip("; "))


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

"""Emitted CUDA C++ to a shared library of the host, cached by everything that it is made from."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from ....dialects.errors import QccError, ResourceError
from ..sources import DEVICE, header_digest
from .launch import EmulatedModule

# No contraction, as for the device: a * b + c rounds twice in both. A kernel's own frame must leave
# room on the stack of its fiber (fibers.h).
FLAGS = (
    "-std=c++17",
    "-O2",
    "-march=native",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fPIC",
    "-shared",
    "-ftls-model=initial-exec",
    "-pthread",
    "-Werror=frame-larger-than=32768",
    "-Wno-unknown-pragmas",
)

HOST_COMPILERS = ("g++", "clang++")


def build_emulated(source: str, folder: Path, name: str = "kernels") -> EmulatedModule:
    """
    The kernels of `source`, ready to be launched; libraries are kept in `folder` and found again.

    Raises ResourceError without a C++ compiler, QccError("emulated-build") where it refuses.
    """
    compiler = host_compiler()
    parts = (source, header_digest(), " ".join(FLAGS), _version(compiler), _processor())
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    library = folder / f"{name}-{digest}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compile(compiler, source, library, name)
    return EmulatedModule(library, source, name)


def has_host_compiler() -> bool:
    return any(shutil.which(name) for name in HOST_COMPILERS)


def host_compiler() -> str:
    """The path of g++, or of clang++ where there is none."""
    for name in HOST_COMPILERS:
        if path := shutil.which(name):
            return path
    raise ResourceError(
        "host-compiler-missing",
        "no C++ compiler was found to emulate CUDA with",
        where="PATH",
        why="the emulator compiles the emitted kernels for this machine",
        next_step="install g++ (12 or later); emitting sources and cubins works without it",
    )


def _compile(compiler: str, source: str, library: Path, name: str) -> None:
    """Write `library`, at once or not at all: another process may be making the same."""
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        text, result = Path(scratch, f"{name}.cu"), Path(scratch, "library.so")
        text.write_text(source)
        command = [compiler, *FLAGS, "-x", "c++", str(text), "-I", str(DEVICE), "-o", str(result)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise QccError(
                "emulated-build",
                f"{Path(compiler).name} refuses the emitted source of '{name}'",
                where=f"{name}.cu",
                why=done.stderr.replace(f"{scratch}/", "").strip()[:4000],
                next_step="report the message with the emitted source",
            )
        os.replace(result, library)


@cache
def _version(compiler: str) -> str:
    return subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True
    ).stdout


@cache
def _processor() -> str:
    """What `-march=native` depends on: a library must not travel to a lesser processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.node()
    wanted = ("flags", "Features", "model name")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))

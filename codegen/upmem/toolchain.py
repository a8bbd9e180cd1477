"""
The compilers of DPU C: clang and lld, from PATH or from the wheel `ziglang`, and the vendor's.

clang checks emitted C with pointers into MRAM kept apart, and builds it for RV32I, which
the emulator executes. The vendor's compiler is a user's own, and never required.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...dialects.errors import ResourceError

VENDOR = "dpu-upmem-dpurte-clang"
TARGET = ("--target=riscv32-unknown-none-elf", "-march=rv32i", "-mabi=ilp32")


@dataclass(frozen=True)
class Clang:
    """clang and lld as commands: a program each, or one program and a word."""

    compiler: tuple[str, ...]
    linker: tuple[str, ...]
    headers: tuple[str, ...]  # options that make the compiler's own headers be found
    version: str


def find_clang() -> Clang:
    """From PATH, else from the wheel; raises ResourceError where there is none."""
    for clang in candidates():
        return clang
    raise ResourceError(
        "pim-clang-missing",
        "no clang for RV32 was found",
        where="PATH, and the package ziglang",
        why="the timed emulator runs DPU code compiled for RV32I; emitting it, checking it and "
        "running it natively needs gcc only",
        next_step="pip install 'qcc[pim-emu]', or put clang and ld.lld on PATH",
    )


@cache
def candidates() -> tuple[Clang, ...]:
    return tuple(_candidates())


def _candidates() -> Iterator[Clang]:
    """Those that can compile for RV32I."""
    clang, linker = shutil.which("clang"), shutil.which("ld.lld")
    if clang and linker:
        found = _answering((clang,), (linker,), ())
        if found:
            yield found
    package = importlib.util.find_spec("ziglang")
    if package and package.submodule_search_locations:
        folder = Path(next(iter(package.submodule_search_locations)))
        zig, headers = str(folder / "zig"), str(folder / "lib" / "include")
        found = _answering((zig, "clang"), (zig, "ld.lld"), ("-isystem", headers))
        if found:
            yield found


def _answering(
    compiler: tuple[str, ...], linker: tuple[str, ...], headers: tuple[str, ...]
) -> Clang | None:
    probe = [*compiler, *TARGET, *headers, "-ffreestanding", "-fsyntax-only", "-x", "c", "-"]
    try:
        version = subprocess.run(
            [*compiler, "--version"], capture_output=True, text=True, check=False
        )
        done = subprocess.run(
            probe, input="#include <stdint.h>\n", capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    if version.returncode or done.returncode:
        return None
    return Clang(compiler, linker, headers, version.stdout.strip())


def find_vendor() -> Path | None:
    """The vendor's compiler on PATH, if there is one."""
    found = shutil.which(VENDOR)
    return Path(found) if found else None


def host_compiler() -> str:
    """The path of gcc, or of another C compiler; raises ResourceError without one."""
    for name in ("gcc", "cc", "clang"):
        if path := shutil.which(name):
            return path
    raise ResourceError(
        "host-compiler-missing",
        "no C compiler was found to emulate DPUs with",
        where="PATH",
        why="the emulators are C, compiled for this machine at first use",
        next_step="install gcc; emitting the C of a plan works without it",
    )


@cache
def version_of(compiler: str) -> str:
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return done.stdout

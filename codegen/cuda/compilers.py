"""The CUDA compilers: nvcc as a program, NVRTC as a library, and where pip's wheels put them."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...dialects.errors import ResourceError
from .sources import DEVICE


@dataclass(frozen=True)
class Outcome:
    """A cubin, or None, and everything that the compiler printed."""

    code: bytes | None
    log: str


class Compiler(Protocol):
    """What turns one source text into a cubin."""

    @property
    def version(self) -> str:
        """As the program reports it: part of the key of what it builds."""
        ...

    def compile(self, source: str, name: str, flags: Sequence[str]) -> Outcome:
        """Never raises for a source that is refused."""
        ...


@dataclass(frozen=True)
class Nvcc:
    """nvcc; it needs a C++ compiler of the host even for device code."""

    program: Path
    version: str

    def compile(self, source: str, name: str, flags: Sequence[str]) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="qcc-nvcc-") as scratch:
            text, result = Path(scratch, f"{name}.cu"), Path(scratch, "result.cubin")
            text.write_text(source)
            command = [str(self.program), "-cubin", *_exact_target(flags)]
            command += [f"-I{DEVICE}", "-o", str(result), str(text)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            log = (done.stdout + done.stderr).replace(f"{scratch}/", "")
            if done.returncode == 0:
                return Outcome(result.read_bytes(), log)
            return Outcome(None, self._placed(log, command, result))

    def _placed(self, log: str, command: list[str], result: Path) -> str:
        """ptxas complains about lines of PTX, which is gone: make it again, say where that is."""
        complaint = re.search(r"ptxas .*line (\d+); error\s*: (.*)", log)
        if not complaint:
            return log
        to_ptx = ["-ptx" if word == "-cubin" else word for word in command]
        done = subprocess.run(to_ptx, capture_output=True, text=True, check=False)
        if done.returncode or not result.exists():
            return log
        kernel, file, line = place_in_ptx(result.read_text(), int(complaint[1]))
        return f"{file}({line}): error: function '{kernel}': {complaint[2]}\n{log}"


@dataclass(frozen=True)
class Nvrtc:
    """The run-time compiler: no program, no compiler of the host, no include folders."""

    library: Path

    @property
    def version(self) -> str:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._open().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return f"nvrtc {major.value}.{minor.value} {self.library.name}"

    def compile(self, source: str, name: str, flags: Sequence[str]) -> Outcome:
        library, program = self._open(), ctypes.c_void_p()
        headers = sorted(DEVICE.glob("*.cuh"))
        texts = _strings([header.read_bytes() for header in headers])
        names = _strings([header.name.encode() for header in headers])
        file_name = f"{name}.cu".encode()
        status = library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), file_name, len(headers), texts, names
        )
        if status:
            return Outcome(None, f"NVRTC cannot make a program (error {status})")
        try:
            options = _strings([flag.encode() for flag in flags])
            failed = library.nvrtcCompileProgram(program, len(flags), options)
            log = self._text(program, "Log").decode().strip("\0")
            return Outcome(None if failed else self._text(program, "CUBIN"), log)
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        library, size = self._open(), ctypes.c_size_t()
        prefix = "nvrtcGetProgram" if what == "Log" else "nvrtcGet"
        library[f"{prefix}{what}Size"](program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        library[f"{prefix}{what}"](program, buffer)
        return buffer.raw

    def _open(self) -> ctypes.CDLL:
        return ctypes.CDLL(str(self.library))


def place_in_ptx(text: str, line: int) -> tuple[str, str, int]:
    """
    The kernel, the file and the line of the source that line `line` of PTX was made from.

    A line of the device header was inlined somewhere: then it is the place that called it.
    """
    above = text.splitlines()[:line]
    kernels = re.findall(r"\.entry (\w+)", "\n".join(above))
    files = dict(re.findall(r'\.file\s+(\d+) "([^"]*)"', text))
    for row in reversed(above):
        if loc := re.match(r"\s*\.loc\s+(\d+) (\d+)(?:.*inlined_at (\d+) (\d+))?", row):
            file, number = (loc[3], loc[4]) if loc[3] else (loc[1], loc[2])
            if files.get(file, "").endswith(".cu"):
                return (kernels or [""])[-1], Path(files[file]).name, int(number)
    return (kernels or [""])[-1], "", 0


def find_compiler() -> Compiler:
    """nvcc from PATH, from a wheel, or NVRTC; raises ResourceError where there is none."""
    for compiler in (*nvcc_programs(), *nvrtc_libraries()):
        return compiler
    raise ResourceError(
        "cuda-compiler-missing",
        "no CUDA compiler was found",
        where="PATH and site-packages/nvidia",
        why="cubins need nvcc or NVRTC; emitting and emulating CUDA needs neither",
        next_step="pip install 'qcc[cuda]', or put nvcc on PATH",
    )


def nvcc_programs() -> Iterator[Nvcc]:
    """Those that answer, best first. An nvcc without a host compiler is passed over."""
    if not shutil.which("g++") and not shutil.which("clang++"):
        return
    on_path = shutil.which("nvcc")
    for program in ([Path(on_path)] if on_path else []) + list(in_wheels("bin/nvcc")):
        done = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            yield Nvcc(program, done.stdout.strip().splitlines()[-1])


def nvrtc_libraries() -> Iterator[Nvrtc]:
    """NVRTC of pip's wheels."""
    for library in in_wheels("lib/libnvrtc.so.*[0-9]"):
        yield Nvrtc(library)


def in_wheels(pattern: str) -> Iterator[Path]:
    """Files of the NVIDIA wheels: `pattern` within site-packages/nvidia/cu13."""
    for folder in sys.path:
        yield from sorted(Path(folder, "nvidia", "cu13").glob(pattern))


def find_program(name: str) -> Path | None:
    """A program of the tool kit, from PATH or a wheel."""
    on_path = shutil.which(name)
    return Path(on_path) if on_path else next(in_wheels(f"bin/{name}"), None)


def _exact_target(flags: Sequence[str]) -> list[str]:
    """`-arch=sm_90a` spelled so that nvcc compiles for nothing but that machine."""
    exact: list[str] = []
    for flag in flags:
        name, _, target = flag.partition("=")
        spelled = f"arch=compute_{target.removeprefix('sm_')},code={target}"
        exact += ["-gencode", spelled] if name == "-arch" else [flag]
    return exact


def _strings(items: Sequence[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * max(1, len(items)))(*items)

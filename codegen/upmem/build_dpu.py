"""
DPU C to programs: checked, built for the RV32 emulator, or with the vendor's compiler.

A program is kept under the hash of all that it is made from, and found again.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...dialects.errors import QccError, ResourceError
from .dpu_program import DpuProgram
from .sources import DEVICE, RV32, digest_of, folder_digest
from .toolchain import TARGET, Clang, find_clang, find_vendor, host_compiler

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror", "-std=gnu11")
RV32_FLAGS = (
    *TARGET,
    "-ffreestanding",
    "-fno-builtin",
    "-fomit-frame-pointer",
    "-mno-relax",
    "-msmall-data-limit=0",
    "-ffunction-sections",
    "-fdata-sections",
    "-std=gnu11",
)


def check_types(program: DpuProgram, clang: Clang | None = None) -> None:
    """
    Compile for its warnings: with clang pointers into MRAM and others are different types.

    Raises QccError("pim-build") with the compiler's words where anything is to be said.
    """
    clang = clang or find_clang()
    command = (*clang.compiler, *TARGET, *clang.headers, "-ffreestanding", *WARNINGS)
    _check(program, command)


def check_untyped(program: DpuProgram) -> None:
    """The same text under gcc, which knows one kind of pointer: rung 3 without any clang."""
    _check(program, (host_compiler(), "-DQCC_NATIVE", *WARNINGS))


def build_rv32(program: DpuProgram, folder: Path, clang: Clang | None = None) -> bytes:
    """
    The ELF image for the emulator, from `folder` if it was built before.

    Raises ResourceError where a memory is too small or there is no clang, QccError where the
    compiler refuses.
    """
    clang = clang or find_clang()
    flags = (*RV32_FLAGS, program.optimisation, *program.definitions)
    script = linker_script(program)
    headers, stubs = folder_digest(DEVICE), folder_digest(RV32)
    digest = digest_of((program.source, *flags, script, headers, stubs, clang.version))
    kept = folder / f"{program.name}-{digest}.elf"
    if kept.exists():
        return kept.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        text = place / f"{program.name}.c"
        text.write_text(program.source)
        (place / "dpu.ld").write_text(script)
        compile_ = [*clang.compiler, *flags, *clang.headers, f"-I{DEVICE}", f"-I{RV32}"]
        _run([*compile_, "-c", str(text), "-o", str(place / "kernel.o")], program, place)
        start = str(place / "start.o")
        _run([*compile_, "-c", str(RV32 / "start.S"), "-o", start], program, place)
        link = [*clang.linker, "-m", "elf32lriscv", "-T", str(place / "dpu.ld"), "--gc-sections"]
        link += ["-e", "main", "-u", "qcc_leave", str(place / "kernel.o"), start]
        _run([*link, "-o", str(place / "program.elf")], program, place)
        os.replace(place / "program.elf", kept)
    return kept.read_bytes()


def build_vendor(program: DpuProgram, folder: Path) -> Path | None:
    """The program as the vendor's compiler makes it; None where there is no such compiler."""
    compiler = find_vendor()
    if compiler is None:
        return None
    digest = digest_of((program.source, *program.definitions, folder_digest(DEVICE)))
    kept = folder / f"{program.name}-{digest}.dpu"
    if kept.exists():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        text, result = Path(scratch, f"{program.name}.c"), Path(scratch, "program")
        text.write_text(program.source)
        # Only the helper header is qcc's: all others are the user's own.
        Path(scratch, "qcc_dpu.h").write_bytes((DEVICE / "qcc_dpu.h").read_bytes())
        command = [str(compiler), program.optimisation, *program.definitions, f"-I{scratch}"]
        _run([*command, "-o", str(result), str(text)], program, Path(scratch))
        os.replace(result, kept)
    return kept


def linker_script(program: DpuProgram) -> str:
    memories = program.memories
    values = {
        "IRAM_BYTES": 4 * memories.iram_instructions,
        "WRAM_BYTES": memories.wram_bytes,
        "MRAM_BYTES": memories.mram_bytes,
        "TASKLETS": program.tasklets,
        "STACK_OF_EACH": program.stack_bytes,
        "STACK_BYTES": program.tasklets * program.stack_bytes,
    }
    text = (RV32 / "dpu.ld.in").read_text()
    return re.sub(r"@(\w+)@", lambda found: str(values[found[1]]), text)


def _check(program: DpuProgram, command: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="qcc-dpu-") as scratch:
        text = Path(scratch, f"{program.name}.c")
        text.write_text(program.source)
        options = [*program.definitions, f"-I{DEVICE}", "-fsyntax-only"]
        _run([*command, *options, str(text)], program, Path(scratch))


def _run(command: list[str], program: DpuProgram, scratch: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _refusal(program, done.stderr.replace(f"{scratch}/", "").strip())


# ---- refusals

_OVERFLOW = re.compile(
    r"section '?(\S+?)'? will not fit in region '(\w+)': overflowed by (\d+) bytes"
)
_UNDEFINED = re.compile(r"undefined symbol: (\S+)")


def _refusal(program: DpuProgram, log: str) -> QccError:
    if overflow := _OVERFLOW.search(log):
        return _too_large(program, overflow[2], int(overflow[3]))
    if "does not fit into the instruction memory" in log:
        return _too_large(program, "IRAM", 0)
    missing = _UNDEFINED.search(log)
    what = f"needs '{missing[1]}', which no DPU runtime has" if missing else "does not compile"
    return QccError(
        "pim-build",
        f"the DPU program '{program.name}' {what}",
        where=f"{program.name}.c",
        why=log[:4000],
        next_step="report the message with the emitted source",
    )


def _too_large(program: DpuProgram, region: str, excess: int) -> ResourceError:
    memories = program.memories
    budget = {
        "WRAM": f"{memories.wram_bytes} bytes of WRAM, of which {program.tasklets} stacks take "
        f"{program.tasklets * program.stack_bytes}",
        "MRAM": f"{memories.mram_bytes} bytes of MRAM",
        "IRAM": f"{memories.iram_instructions} instructions",
    }[region]
    steps = {
        "WRAM": "use fewer tasklets, smaller private buffers or a smaller p",
        "MRAM": "split the weights over more DPUs, or use a smaller p",
        "IRAM": "unroll less",
    }
    return ResourceError(
        "pim-memory",
        f"the DPU program '{program.name}' does not fit into {region}",
        where=f"{program.name}.c",
        why=f"a DPU has {budget}" + (f"; {excess} bytes are too many" if excess else ""),
        next_step=steps[region],
    )

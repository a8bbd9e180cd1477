"""What kernels cost, known without a GPU: registers, spills and memory from ptxas, SASS counted."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...dialects.errors import QccError, ResourceError
from .compilers import find_program
from .toolchain import Cubin

# SASS of an emulated matrix instruction may call a routine; a kernel of qcc never calls anything.
CALL = "CALL"
LOCAL = (
    "LDL",
    "STL",
)  # what was spilled, or an array that the compiler could not keep in registers


@dataclass(frozen=True)
class Resources:
    """
    One kernel: of a thread `registers`, and bytes of stack, spill stores and spill loads; static
    shared bytes of a block (dynamic ones belong to the launch); SASS opcodes with modifiers.
    """

    kernel: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int
    opcodes: Counter[str]
    warnings: tuple[str, ...]  # of ptxas, such as products of warp groups that it serialized

    def count(self, *prefixes: str) -> int:
        """Instructions whose opcode is one of `prefixes`, alone or with modifiers: LDSM.16, HMMA"""
        return sum(
            number
            for opcode, number in self.opcodes.items()
            if f"{opcode}.".startswith(tuple(f"{prefix}." for prefix in prefixes))
        )

    @property
    def spills(self) -> bool:
        return bool(self.spill_stores or self.spill_loads or self.count(*LOCAL))

    @property
    def total(self) -> int:
        return self.opcodes.total()


def resources(cubin: Cubin) -> dict[str, Resources]:
    """
    By kernel; raises ResourceError without nvdisasm, and QccError where its output is not SASS.
    """
    opcodes = sass_opcodes(cubin)
    return {
        kernel: Resources(
            kernel, *usage, opcodes.get(kernel, Counter()), warnings_about(kernel, cubin.log)
        )
        for kernel, usage in register_usage(cubin.log)
    }


def warnings_about(kernel: str, log: str) -> tuple[str, ...]:
    """
    What ptxas found slow in `kernel`, or in a kernel that it does not name.

    >>> warnings_about("k", "ptxas info : (C7518) Potential Performance Loss: in the function 'k'")
    ("(C7518) Potential Performance Loss: in the function 'k'",)
    """
    found = re.findall(r"\(C\d+\) Potential Performance Loss[^\n]*", log)
    return tuple(line for line in found if f"'{kernel}'" in line or "function '" not in line)


def register_usage(log: str) -> Iterator[tuple[str, tuple[int, int, int, int, int]]]:
    """
    From `ptxas -v`: each kernel with registers, stack, spill stores, spill loads, shared bytes.

    >>> list(register_usage("Compiling entry function 'k' for 'sm_80'\\n 8 bytes stack frame, "
    ...      "4 bytes spill stores, 4 bytes spill loads\\n Used 71 registers, 512 bytes smem"))
    [('k', (71, 8, 4, 4, 512))]
    """
    for part in re.split(r"Compiling entry function ", log)[1:]:
        name = re.match(r"'(\w+)'", part)
        if name:
            patterns = (
                r"Used (\d+) registers",
                r"(\d+) bytes stack frame",
                r"(\d+) bytes spill stores",
                r"(\d+) bytes spill loads",
                r"(\d+) bytes smem",
            )
            found = [re.search(pattern, part) for pattern in patterns]
            registers, stack, stores, loads, shared = (int(m[1]) if m else 0 for m in found)
            yield name[1], (registers, stack, stores, loads, shared)


def sass_opcodes(cubin: Cubin) -> dict[str, Counter[str]]:
    """How often each opcode stands in each kernel's code; raises ResourceError without nvdisasm."""
    counts: dict[str, Counter[str]] = {}
    current: Counter[str] = Counter()
    for line in disassemble(cubin).splitlines():
        if section := re.match(r"\s*\.section\s+\.text\.(\w+)", line):
            current = counts.setdefault(section[1], Counter())
        elif instruction := _INSTRUCTION.search(line):
            current[instruction[1]] += 1
    if not any(counts.values()):
        raise QccError(
            "cuda-disassembly",
            f"no instructions were found in the cubin of '{cubin.name}' ({cubin.target})",
            why=f"{find_program('nvdisasm')} prints another form than this qcc reads",
            next_step="pip install 'qcc[cuda]' for an nvdisasm that it reads",
        )
    return counts


# /*0ab0*/  @!P0 HMMA.16816.F32 R28, R44.reuse, R40, R28 ;
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?([A-Z][\w.]*)")


def disassemble(cubin: Cubin) -> str:
    """The SASS of all kernels; raises ResourceError without nvdisasm."""
    program = find_program("nvdisasm")
    if program is None:
        raise ResourceError(
            "cuda-disassembler-missing",
            "nvdisasm was not found",
            where="PATH and site-packages/nvidia",
            why="the instructions of a cubin cannot be counted without it",
            next_step="pip install 'qcc[cuda]', or put nvdisasm on PATH",
        )
    with tempfile.TemporaryDirectory(prefix="qcc-sass-") as scratch:
        file = Path(scratch, "kernels.cubin")
        file.write_bytes(cubin.code)
        done = subprocess.run(
            [str(program), "-c", str(file)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise ResourceError(
            "cuda-disassembly",
            f"{program} ended with {done.returncode} on the cubin of '{cubin.name}'",
            why=done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it says nothing",
            next_step="try again; below 0 it was killed, as by a lack of memory",
        )
    return done.stdout

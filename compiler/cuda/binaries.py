"""
Binaries of CUDA code, and what they cost: built where there is a toolchain, left out where not.

Sources are the product in any case. Without a compiler the code keeps none and says so; a compiler
that refuses a source is an error, which names the kernel, the line and a reproducer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...codegen.cuda.compilers import find_compiler
from ...codegen.cuda.program import CudaCode
from ...codegen.cuda.resources import Resources, resources
from ...codegen.cuda.toolchain import Cubin, Job, build_all
from ...dialects.errors import ResourceError
from ..cache_folder import cache_folder

MATRIX_OPCODES = (
    "HMMA", "IMMA", "QMMA", "OMMA", "BMMA", "DMMA", "HGMMA", "IGMMA", "QGMMA", "UTCMMA",
)  # fmt: skip
COPY_OPCODES = ("LDGSTS", "LDSM", "UTMALDG", "UBLKCP")


def with_binaries(code: CudaCode) -> CudaCode:
    """The code with a cubin for each source; as it is without a CUDA compiler."""
    try:
        compiler = find_compiler()
    except ResourceError:
        return code
    machine = code.plan.target
    jobs = [Job(source.family, source.text, machine) for source in code.sources]
    cubins = build_all(jobs, cache_folder("cubins"), compiler=compiler)
    rows = [row for cubin in cubins for row in _rows(cubin)]
    return replace(
        code,
        cubins={cubin.name: cubin.code for cubin in cubins},
        toolchain=compiler.version,
        resources=tuple(rows),
    )


def _rows(cubin: Cubin) -> Sequence[dict[str, Any]]:
    try:
        found = resources(cubin)
    except ResourceError:  # no nvdisasm: the binaries run all the same
        return []
    return [_row(used) for _, used in sorted(found.items())]


def _row(used: Resources) -> dict[str, Any]:
    """
    A line of the resource table: for a thread registers and spilled bytes, static shared bytes of a
    block, and the matrix and copy instructions that stand in the SASS.
    """
    return {
        "kernel": used.kernel,
        "registers": used.registers,
        "spill_bytes": used.spill_stores + used.spill_loads,
        "static_shared_bytes": used.shared,
        "instructions": used.total,
        "matrix": _counted(used, MATRIX_OPCODES),
        "copies": _counted(used, COPY_OPCODES),
        "warnings": list(used.warnings),
    }


def _counted(used: Resources, opcodes: Sequence[str]) -> dict[str, int]:
    return {opcode: count for opcode in opcodes if (count := used.count(opcode))}

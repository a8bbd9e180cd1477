"""What a report says of kernels for a GPU: the resource table, and what built them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...codegen.cuda.plan import LaunchStep
from ...codegen.cuda.program import CudaCode
from ..targets import Target


def cuda_report(codes: Mapping[str, object], target: Target) -> dict[str, Any] | None:
    """The fields of report_data.Cuda for the code of each precision by name; None of other code."""
    kept = {name: code for name, code in codes.items() if isinstance(code, CudaCode)}
    if not kept:
        return None
    first = next(iter(kept.values()))
    return {
        "machine": first.plan.target,
        "toolchain": first.toolchain,
        "kernels": [row for name, code in kept.items() for row in _kernels(name, code)],
        "note": "" if target.emulated or first.toolchain else _sources_only(first),
    }


def _kernels(precision: str, code: CudaCode) -> Iterator[dict[str, Any]]:
    """A row for each kernel: what the plan knows of it, and what the toolchain found."""
    found = {row["kernel"]: row for row in code.resources}
    launches = [step for step in code.plan.functions["main"].steps if isinstance(step, LaunchStep)]
    counts = Counter(step.kernel for step in launches)
    for step in {step.kernel: step for step in _all_launches(code)}.values():
        yield {
            "precision": precision,
            "kernel": step.kernel,
            "family": step.family,
            "launches": counts[step.kernel],
            "threads": step.threads,
            "shared_bytes": step.shared_bytes,
        } | found.get(step.kernel, {})


def _all_launches(code: CudaCode) -> Sequence[LaunchStep]:
    return [
        step
        for function in code.plan.functions.values()
        for step in function.steps
        if isinstance(step, LaunchStep)
    ]


def _sources_only(code: CudaCode) -> str:
    return (
        f"no CUDA compiler was found: the artifact has the sources of its kernels, and no cubins "
        f"for {code.plan.target}; to have them, pip install 'qcc[cuda]' or put nvcc on PATH, and "
        "compile again"
    )


def kernel_rows(kernels: Sequence[Any]) -> list[dict[str, Any]]:
    """Kernels of report_data as rows of a table of text."""
    return [
        {
            "kernel": kernel.kernel,
            "precision": kernel.precision,
            "launches": kernel.launches,
            "threads": kernel.threads,
            "shared": kernel.shared_bytes + (kernel.static_shared_bytes or 0),
            "registers": _told(kernel.registers),
            "spills": _told(kernel.spill_bytes),
            "matrix": _counts(kernel.matrix),
            "copies": _counts(kernel.copies),
        }
        for kernel in kernels
    ]


KERNEL_COLUMNS = (
    "kernel", "precision", "launches", "threads", "shared", "registers", "spills", "matrix",
    "copies",
)  # fmt: skip


def _told(number: int | None) -> str:
    return "-" if number is None else str(number)


def _counts(counts: Mapping[str, int]) -> str:
    return " ".join(f"{opcode}:{count}" for opcode, count in counts.items()) or "-"

"""
CUDA code as members of an artifact.

    kernels/cuda.json                     launch plan, sources, resource table, toolchain
    kernels/cuda.safetensors              constants of the plan
    kernels/cuda/linear.cu                sources, one for each family of kernels
    kernels/cuda/linear.sm_90a.cubin      binaries, where there was a toolchain
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...codegen.cuda.plan import Plan
from ...codegen.cuda.program import CudaCode, Source
from ...dialects.errors import IntegrityError
from ..artifact import Artifact
from ..manifest import Precision
from ..tensor_layout import pack_tensors, unpack_tensors


class _SourceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    family: str
    kernels: tuple[str, ...]


class Binding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    `toolchain` is the version of what built the cubins, None without one; `resources` has a row for
    each kernel that was built.
    """

    plan: Plan
    sources: tuple[_SourceEntry, ...]
    toolchain: str | None
    resources: tuple[dict[str, Any], ...]


def cuda_members(precision: Precision, code: CudaCode) -> dict[str, bytes]:
    entries = tuple(_SourceEntry(source.family, source.kernels) for source in code.sources)
    binding = Binding(code.plan, entries, code.toolchain, code.resources)
    folder = precision.binding.removesuffix(".json")
    members = {
        precision.binding: msgspec.json.format(msgspec.json.encode(binding), indent=1) + b"\n",
        precision.object: pack_tensors(code.constants),
    }
    for source in code.sources:
        members[f"{folder}/{source.family}.cu"] = source.text.encode()
    for family, cubin in code.cubins.items():
        members[f"{folder}/{family}.{code.plan.target}.cubin"] = cubin
    return members


def read_binding(artifact: Artifact, precision: Precision) -> Binding:
    """Raises IntegrityError for a damaged one."""
    try:
        return msgspec.convert(artifact.json(precision.binding), Binding)
    except msgspec.ValidationError as error:
        raise IntegrityError(
            "artifact-plan",
            "the launch plan is damaged",
            why=str(error),
            next_step="compile the model again",
        ) from error


def read_cuda(artifact: Artifact, precision: Precision) -> CudaCode:
    """Undo `cuda_members`."""
    binding = read_binding(artifact, precision)
    folder = precision.binding.removesuffix(".json")
    sources = tuple(
        Source(
            entry.family,
            entry.kernels,
            artifact.read(f"{folder}/{entry.family}.cu").decode(),
        )
        for entry in binding.sources
    )
    cubins = {
        source.family: artifact.read(name)
        for source in sources
        if (name := f"{folder}/{source.family}.{binding.plan.target}.cubin") in artifact
    }
    return CudaCode(
        binding.plan,
        sources,
        unpack_tensors(artifact.read(precision.object)),
        cubins,
        binding.toolchain,
        binding.resources,
    )

"""
What differs between targets: building code, its members in an artifact, and running it.

Running needs neither torch nor MLIR, so what builds is imported where something is built.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ..codegen.cpu.features import missing_features
from ..codegen.cpu.program import Code
from ..codegen.cuda.emulator.build import has_host_compiler
from ..codegen.cuda.program import CudaCode
from ..codegen.upmem.program import UpmemCode
from ..dialects.errors import QccError, QccWarning
from .artifact import Artifact
from .cache_cost import CacheCost
from .cache_folder import cache_folder
from .cuda.members import cuda_members, read_binding, read_cuda
from .manifest import Precision
from .plan import Plan
from .running import Running, RunningCode, default_threads
from .targets import Target, require_target
from .upmem.members import read_upmem, read_upmem_binding, source_bytes, upmem_members

if TYPE_CHECKING:
    from ..dialects.bindings import ir

AnyCode = Code | CudaCode | UpmemCode
CHECKED_LIMIT = 1 << 30
"""Stored weight bytes; the code to check needs all of them in memory."""
EMULATED_LIMIT = 1 << 24
"""Likewise for the emulator, which computes some 10^9 products a second."""


def code_members(precision: Precision, code: AnyCode) -> dict[str, bytes]:
    """The members of an artifact that hold the code of a precision, by name."""
    if isinstance(code, CudaCode):
        return cuda_members(precision, code)
    if isinstance(code, UpmemCode):
        return upmem_members(precision, code)
    return {precision.object: code.object, precision.binding: encoded(code.as_json())}


def stored_code(artifact: Artifact, precision: Precision) -> AnyCode:
    """
    The code of a precision, compiled again where it is for a processor that can do more.

    A QccWarning says so.
    """
    manifest = artifact.manifest
    family = require_target(manifest.target).family
    if family == "cuda":
        return read_cuda(artifact, precision)
    lacking = missing_features(manifest.cpu_features)
    if family == "upmem":
        Plan.from_json(artifact.json("plan.json"))  # formats that a user defined
        rebuilt = _rebuilt(artifact, precision, lacking) if lacking else None
        return read_upmem(artifact, precision, rebuilt)
    if lacking:
        return _rebuilt(artifact, precision, lacking)
    return Code.from_json(artifact.json(precision.binding), artifact.read(precision.object))


def _rebuilt(artifact: Artifact, precision: Precision, lacking: Sequence[str]) -> Code:
    from .rebuild import rebuild

    warnings.warn(
        QccWarning(
            f"{artifact.path} was compiled for a processor with {', '.join(lacking)}, which this "
            "one lacks: its kernels are compiled again for this one, at each start; compile the "
            "model here to save that time"
        ),
        stacklevel=2,
    )
    # Reading the plan makes the formats known that a user defined.
    Plan.from_json(artifact.json("plan.json"))
    return rebuild(artifact.read("model.mlir").decode(), precision.view)


def tensors_read(artifact: Artifact, precision: Precision) -> tuple[str, ...]:
    """The stored tensors that a precision reads."""
    family = require_target(artifact.manifest.target).family
    if family == "cuda":
        return read_binding(artifact, precision).plan.tensors
    if family == "upmem":
        return read_upmem_binding(artifact, precision).tensors
    return Code.from_json(artifact.json(precision.binding), b"").parts


def code_bytes(artifact: Artifact, precision: Precision) -> int:
    """Of what a machine executes: an object file, or cubins; of sources where there are none."""
    family = require_target(artifact.manifest.target).family
    if family == "cpu":
        return artifact.size(precision.object)
    if family == "upmem":
        return source_bytes(artifact, precision)
    code = read_cuda(artifact, precision)
    cubins = sum(map(len, code.cubins.values()))
    return cubins or sum(len(source.text.encode()) for source in code.sources)


def start(
    code: AnyCode,
    target: Target,
    tensor: Callable[[str], np.ndarray],
    threads: int | tuple[int, ...] | None = None,
) -> Running:
    """The code with its tensors bound, on the device that the target is for."""
    if isinstance(code, Code):
        return RunningCode(code, tensor, threads)
    count = len(threads) if isinstance(threads, tuple) else threads
    if isinstance(code, UpmemCode):
        from .upmem.running import UpmemRunning

        return UpmemRunning(code, tensor, cache_folder("upmem"), count or default_threads())
    from .cuda.devices import open_device
    from .cuda.running import CudaRunning

    return CudaRunning(code, tensor, open_device(code, target, count))


def checking_target(target: Target, weight_bytes: int) -> Target | None:
    """
    Where new code can be run to see whether it is right; None where that takes too much.

    Code for a GPU is run by the emulator: it shows more than a GPU would, and needs none.
    """
    if target.family == "cpu":
        return target if weight_bytes < CHECKED_LIMIT else None
    emulated = replace(target, emulated=True)
    return emulated if weight_bytes < EMULATED_LIMIT and has_host_compiler() else None


def cache_costs(code: AnyCode, module: ir.Module) -> list[CacheCost]:
    """The KV caches of a program, in the order of its attention."""
    if isinstance(code, Code | UpmemCode):
        return [
            CacheCost(
                cache.keys.format, cache.values.format, cache.position_bytes, cache.position_floats
            )
            for cache in (code.host if isinstance(code, UpmemCode) else code).caches
        ]
    from .cache_cost import cuda_cache_costs

    return cuda_cache_costs(code, module)


def without_step(code: AnyCode) -> QccError | None:
    """Why a program that could run in steps has no code for one; None where it has, or cannot."""
    return code.without_step if isinstance(code, CudaCode) else None


def encoded(data: Any) -> bytes:
    """JSON as artifacts have it."""
    return msgspec.json.format(msgspec.json.encode(data, order="sorted"), indent=1) + b"\n"

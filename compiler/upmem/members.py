"""
Code for DPUs as members of an artifact.

    kernels/upmem/host.o            machine code of what stays on the host
    kernels/upmem/host.json         how it is called, and which layers it calls back for
    kernels/upmem.json              device, emulator, plan: layers, MRAM, transfers, what stays
    kernels/upmem/model.c, model.h  C of the host
    kernels/upmem/pim_0.c           C of a kernel, which layers of one shape share
    kernels/upmem/pim_0.dpu         as the vendor's compiler made it, where that was found
    kernels/upmem/qcc_dpu.h, …      the headers that these include
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ...codegen.cpu.program import Code
from ...codegen.upmem.program import UpmemCode
from ...dialects.errors import IntegrityError
from ..artifact import Artifact
from ..manifest import Precision

if TYPE_CHECKING:
    from ...dialects.pim.plan import Launched, Plan


HOST = "host"


class Move(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`length` bytes of each DPU at `offset` of its MRAM; `once` when the model is loaded."""

    kind: Literal["shard", "broadcast", "gather"]
    array: str
    offset: int
    length: int
    once: bool


class PlacedLayer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a layer launches and moves; `schedule` is how its parts are laid out."""

    name: str
    layer: str
    kernel: str
    parameter: str
    schedule: dict[str, Any]
    moves: tuple[Move, ...]


class Binding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The plan as data, for programs that are not qcc; `sources` are the C files, `programs` what the
    vendor's compiler made of kernels.

    `device` has the fields of dialects.pim.device.Device, whose package needs MLIR.
    """

    device: dict[str, Any]
    rung: Literal["native", "rv32"]
    dpus: int
    layers: tuple[PlacedLayer, ...]
    host: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]
    tensors: tuple[str, ...]
    programs: tuple[str, ...] = ()


def upmem_members(precision: Precision, code: UpmemCode) -> dict[str, bytes]:
    plan = code.plan
    binding = Binding(
        msgspec.to_builtins(plan.device),
        code.rung,
        plan.dpus,
        tuple(_placed(plan, layer) for layer in plan.launched),
        plan.host,
        tuple(sorted(code.sources)),
        code.tensors,
        tuple(sorted(code.programs)),
    )
    folder = precision.binding.removesuffix(".json")
    members = {
        precision.binding: msgspec.json.format(msgspec.json.encode(binding), indent=1) + b"\n"
    }
    for name in binding.sources:
        members[f"{folder}/{name}"] = code.sources[name].encode()
    members |= {f"{folder}/{name}": program for name, program in code.programs.items()}
    members[f"{folder}/{HOST}.o"] = code.host.object
    host = msgspec.json.encode(code.host.as_json())
    members[f"{folder}/{HOST}.json"] = msgspec.json.format(host, indent=1) + b"\n"
    return members


def _placed(plan: Plan, layer: Launched) -> PlacedLayer:
    moves = tuple(
        Move(each.kind, each.array, each.offset, each.length, each.once)  # type: ignore[arg-type]
        for each in plan.transfers(layer)
    )
    schedule = msgspec.to_builtins(layer.schedule)
    return PlacedLayer(layer.name, layer.layer, layer.kernel, layer.parameter, schedule, moves)


def read_upmem_binding(artifact: Artifact, precision: Precision) -> Binding:
    """Raises IntegrityError for anything else."""
    try:
        return msgspec.json.decode(artifact.read(precision.binding), type=Binding)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(
            "artifact-upmem",
            f"{precision.binding} is no plan for DPUs",
            why=str(error),
            next_step="compile the model again",
        ) from error


def source_bytes(artifact: Artifact, precision: Precision) -> int:
    """Of all C files."""
    folder = precision.binding.removesuffix(".json")
    names = read_upmem_binding(artifact, precision).sources
    return sum(artifact.size(f"{folder}/{name}") for name in names)


def read_upmem(artifact: Artifact, precision: Precision, host: Code | None = None) -> UpmemCode:
    """
    The code of an artifact, its plan made again from the stored program; with `host`, where what
    is stored is for another processor.
    """
    from ...dialects.bindings import ir
    from ...dialects.context import make_context
    from ...dialects.pim.device import Device
    from ...dialects.pim.plan import Plan

    binding = read_upmem_binding(artifact, precision)
    folder = precision.binding.removesuffix(".json")
    text = artifact.read("model.mlir").decode()
    sources = {name: artifact.read(f"{folder}/{name}").decode() for name in binding.sources}
    with make_context(), ir.Location.unknown():
        device = msgspec.convert(binding.device, Device)
        plan = Plan.of(ir.Module.parse(text), device)
    host = host or Code.from_json(
        artifact.json(f"{folder}/{HOST}.json"), artifact.read(f"{folder}/{HOST}.o")
    )
    programs = {name: artifact.read(f"{folder}/{name}") for name in binding.programs}
    return UpmemCode(text, plan, host, binding.rung, sources, binding.tensors, programs)

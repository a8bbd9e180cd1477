"""
Show what an artifact holds: entry signature, precisions, members, tensors with their formats.

Reads the file and checks it; runs nothing of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console, bytes_text, cache_text, table

if TYPE_CHECKING:
    from ..artifact import Artifact
    from ..manifest import Extent, Precision, Value
    from ..report_data import Cuda, Generation, KvCache, Upmem

SUMMARY = "show the contents of an artifact"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="OUT.qcc", type=Path)
    parser.add_argument("--no-verify", action="store_true", help="skip the hash checks")


def run(args: argparse.Namespace, console: Console) -> int:
    from ..artifact import Artifact
    from ..report_data import decode_report

    with Artifact.open(args.artifact, verify=not args.no_verify) as artifact:
        members = [{"name": name, "bytes": artifact.size(name)} for name in artifact.names()]
        tensors = [_tensor(artifact, name) for name in sorted(artifact.tensor_names())]
        precisions = [_precision(artifact, each) for each in artifact.manifest.precisions]
        report = decode_report(artifact.read("report.json"), str(args.artifact))
        cache = report.kv_cache
        data = {
            "manifest": artifact.manifest,
            "precisions": precisions,
            "members": members,
            "tensors": tensors,
            "kv_cache": cache,
            "cuda": report.cuda,
            "upmem": report.upmem,
            "generation": report.generation,
        }
        text = _text(artifact, precisions, members, tensors) + _cache_text(cache)
        text += _kernel_text(report.cuda) + _upmem_text(report.upmem)
        console.result(data, text + _generation_text(report.generation))
    return 0


def _tensor(artifact: Artifact, name: str) -> dict[str, Any]:
    spec = artifact.spec(name)
    formats = artifact.weights_metadata
    return {
        "name": name,
        "format": formats.get(name, formats.get(name.rpartition("/")[0])),
        "dtype": str(spec.dtype),
        "shape": list(spec.shape),
        "bytes": spec.nbytes,
    }


def _precision(artifact: Artifact, precision: Precision) -> dict[str, Any]:
    """What this precision reads of the weights, which are stored once."""
    from ..backends import code_bytes, tensors_read

    read = tensors_read(artifact, precision)
    return {
        "name": precision.name,
        "tensors": len(read),
        "weight_bytes": sum(artifact.spec(name).nbytes for name in read),
        "code_bytes": code_bytes(artifact, precision),
    }


def _text(
    artifact: Artifact,
    precisions: list[dict[str, Any]],
    members: list[dict[str, Any]],
    tensors: list[dict[str, Any]],
) -> str:
    manifest = artifact.manifest
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    total = sum(tensor["bytes"] for tensor in tensors)
    return "\n".join(
        [
            f"{artifact.path}: target {manifest.target}, calibration {manifest.calibration}",
            f"made by {versions}",
            f"input hash {manifest.input_hash}",
            "",
            *(f"input  {_value(value)}" for value in manifest.entry.inputs),
            *(f"output {_value(value)}" for value in manifest.entry.outputs),
            *(f"where  {_extent(name, size)}" for name, size in manifest.entry.dims.items()),
            "",
            "precisions, the default first",
            table(precisions, ["name", "tensors", "weight_bytes", "code_bytes"]),
            "",
            table(members, ["name", "bytes"]),
            "",
            table(tensors, ["name", "format", "dtype", "shape", "bytes"]),
            "",
            f"{len(tensors)} tensors, {bytes_text(total)}",
        ]
    )


def _cache_text(cache: KvCache | None) -> str:
    if cache is None:
        return ""
    rows = [
        {
            "attention": layer.name,
            "keys": layer.keys or "fp32",
            "values": layer.values or "fp32",
            "bytes a token": layer.token_bytes,
            "reason": layer.reason,
        }
        for layer in cache.layers
    ]
    return f"\n\n{table(rows, list(rows[0]))}\n\n" + cache_text(
        cache.token_bytes, cache.token_bytes_fp32
    )


def _kernel_text(cuda: Cuda | None) -> str:
    if cuda is None:
        return ""
    from ..cuda.report import KERNEL_COLUMNS, kernel_rows

    built = f"built by {cuda.toolchain}" if cuda.toolchain else cuda.note or "run by the emulator"
    rows = kernel_rows(cuda.kernels)
    return f"\n\nkernels for {cuda.machine}, {built}\n{table(rows, KERNEL_COLUMNS)}"


def _upmem_text(upmem: Upmem | None) -> str:
    if upmem is None:
        return ""
    from ..upmem.report import COLUMNS, host_rows, layer_rows

    head = f"layers on up to {upmem.dpus} DPUs {upmem.device}, run by the emulator {upmem.emulator}"
    step = upmem.step_milliseconds
    alone = "" if step is None else f", a step of one token {step:.3f} ms,"
    text = f"\n\n{head}; a call takes them {upmem.milliseconds:.3f} ms{alone} by the cycle model\n"
    text += table(layer_rows(upmem.layers), list(COLUMNS))
    if upmem.host:
        text += f"\n\non the host\n{table(host_rows(upmem.host), ['ops', 'reason'])}"
    return text


def _generation_text(generation: Generation | None) -> str:
    if generation is None or generation.available:
        return ""
    return f"\n\nno generation token by token: {generation.reason}\n  {generation.next_step}"


def _value(value: Value) -> str:
    return f"{value.name}: {value.dtype}[{', '.join(map(str, value.shape))}]"


def _extent(name: str, extent: Extent) -> str:
    return f"{extent.min} <= {name}" + (f" <= {extent.max}" if extent.max is not None else "")

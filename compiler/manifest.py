"""
`manifest.json`: what an artifact is, what made it, and the hash of everything in it.

The structs are the schema (docs/artifact.md): an unknown field is refused, and `schema` grows when
a field changes its meaning. Nothing here names a host, a user, a path or a time, so that the same
input gives the same bytes.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import msgspec

from .. import __version__
from ..dialects.errors import IntegrityError, UnsupportedError
from .nesting import Nest

SCHEMA = 1

Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    An input or output: its NumPy dtype and its shape, where a string names a symbolic size.

    Numbers of an input that index tables are below `limit`, and not negative.
    """

    name: str
    dtype: str
    shape: tuple[Size | str, ...]
    limit: Size | None = None


class Extent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sizes a symbolic dimension may take; `max` is None where there is no bound."""

    min: Size = 0
    max: Size | None = None


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What the entry point takes and gives.

    `parameters` is how the model's own arguments nest, a dict by their names, and `results` what
    it returns; None for a flat list of inputs, and for one output or a tuple of several.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    dims: dict[str, Extent] = {}
    parameters: Nest | None = None
    results: Nest | None = None


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the archive, in archive order; the manifest itself is not listed."""

    name: str
    size: Size
    crc32: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    sha256: Sha256


class Precision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A precision that the artifact runs in, and the members that only this one uses.

    `object` holds machine code for a CPU, the constants of a launch plan for a GPU, the host's C
    for DPUs; `binding` says how it is called. `view` is the view taken of formats that offer it,
    None for all formats as they are; `outputs` is None where no golden outputs are stored; a replay
    may differ from them by `tolerance`, relative to their largest value, and one token by token by
    `step_tolerance`.
    """

    name: str
    view: str | None
    object: str
    binding: str
    outputs: str | None
    tolerance: float = 0.0
    step_tolerance: float = 0.0

    @classmethod
    def whole(cls, name: str) -> Precision:
        return cls(name, None, "kernels/cpu.o", "kernels/cpu.json", "golden/outputs.safetensors")

    @classmethod
    def of_view(cls, view: str) -> Precision:
        kernels = f"kernels/cpu.{view}"
        return cls(
            view, view, f"{kernels}.o", f"{kernels}.json", f"golden/outputs.{view}.safetensors"
        )

    def for_cuda(self) -> Precision:
        """The same with the members that code for a GPU has."""
        kernels = "kernels/cuda" if self.view is None else f"kernels/cuda.{self.view}"
        members = {"object": f"{kernels}.safetensors", "binding": f"{kernels}.json"}
        return msgspec.structs.replace(self, **members)

    def for_upmem(self) -> Precision:
        """The same with the members that code for DPUs has."""
        members = {"object": "kernels/upmem/model.c", "binding": "kernels/upmem.json"}
        return msgspec.structs.replace(self, **members)


DEFAULT_PRECISION = Precision.whole("default")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    The artifact's record of itself; `options` and `generation` belong to the driver.

    The first of `precisions` is used where none is asked for.
    """

    schema: int = SCHEMA
    versions: dict[str, str]
    target: str
    cpu_features: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    seed: int = 0
    input_hash: str
    entry: Signature
    precisions: Annotated[tuple[Precision, ...], msgspec.Meta(min_length=1)] = (DEFAULT_PRECISION,)
    generation: dict[str, Any] | None = None
    calibration: str = "none"
    members: tuple[Member, ...]
    tensors: dict[str, Sha256]


class _Schema(msgspec.Struct):
    schema: int


def tool_versions() -> dict[str, str]:
    """Versions of what shapes the artifact's bytes; importing none of it."""
    return {"qcc": __version__} | {
        package: _installed(package) for package in ("llvmlite", "numpy", "torch-mlir")
    }


def make_manifest(
    fields: dict[str, Any], members: list[Member], tensors: dict[str, str]
) -> Manifest:
    """Check the driver's fields against the schema; a mismatch is a bug and a ValidationError."""
    known = {"schema": SCHEMA, "versions": tool_versions()}
    computed = {"members": members, "tensors": tensors}
    return msgspec.convert(msgspec.to_builtins(known | fields | computed), Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Raises UnsupportedError for another schema, IntegrityError for anything malformed."""
    try:
        schema = msgspec.json.decode(data, type=_Schema).schema
        if schema != SCHEMA:
            raise UnsupportedError(
                "artifact-schema",
                f"the artifact has manifest schema {schema}; this qcc reads schema {SCHEMA}",
                next_step="compile the model again with this version of qcc",
            )
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(
            "artifact-manifest",
            "manifest.json is damaged",
            why=str(error),
            next_step="compile the model again, or copy the artifact again",
        ) from error


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

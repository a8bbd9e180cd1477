"""
The `.qcc` artifact: an uncompressed zip that is written by streaming and read by mapping.

    with ArtifactWriter(path) as writer:
        writer.add("plan.json", plan)
        with writer.add_weights(specs, metadata) as weights:
            weights.write(name, array)          # each tensor once, in any order, from any thread
        writer.finish(manifest_fields)

    with Artifact.open(path) as artifact:
        artifact.tensor(name)                   # a read-only view of the mapped file

Every byte of the file is accounted for: members and tensors by the SHA-256 sums in the manifest,
and the zip and safetensors headers because a reader lays them out again and compares. Needs
neither torch nor MLIR. docs/artifact.md describes the format.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from ..dialects.errors import QccError, UsageError
from .artifact_frame import MANIFEST, check_frame, damaged, digest, whole
from .file_kind import ARTIFACT, sound_kind
from .frontend.archive import open_archive
from .manifest import Manifest, Member, decode_manifest, encode_manifest, make_manifest
from .publish import StagedFile, publish_copy
from .tensor_layout import TensorLayout, TensorSpec, header_size, lay_out, parse_header
from .zip_layout import Placed, directory, local_header

__all__ = ["Artifact", "ArtifactWriter", "TensorSpec", "WeightsWriter"]

WEIGHTS = "weights.safetensors"
_MANIFEST_LIMIT = 64 << 20


class Artifact:
    """An opened artifact. Arrays from `tensor` stay valid after `close`."""

    def __init__(
        self, path: Path, file: BinaryIO, manifest: Manifest, members: dict[str, Placed]
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._file = file
        self._members = members
        self._weights = self._read_layout()
        self._map = np.memmap(file, np.uint8, "r").view(np.ndarray)

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = True) -> Artifact:
        """
        Open `path` and check its structure and, unless `verify` is off, every hash.

        Raises IntegrityError for any damage, UsageError if there is no such file or it is another.
        """
        path = Path(path)
        kind = sound_kind(path)
        if kind not in ("", ARTIFACT):
            raise UsageError(
                "not-an-artifact",
                f"'{path}' is no artifact of qcc",
                why=f"it is {kind}",
                next_step="make one: qcc compile MODEL -o OUT.qcc",
            )
        try:
            return cls._open(path, verify)
        except QccError as error:
            # What reads a member does not know the file it came from.
            error.where = error.where or str(path)
            raise

    @classmethod
    def _open(cls, path: Path, verify: bool) -> Artifact:
        with open_archive(path) as archive:
            manifest_bytes = archive.read(MANIFEST, _MANIFEST_LIMIT)
        manifest = decode_manifest(manifest_bytes)
        with ExitStack() as on_error:
            file = on_error.enter_context(path.open("rb"))
            members = check_frame(path, file, manifest, manifest_bytes)
            artifact = cls(path, file, manifest, members)
            if verify:
                artifact.check_hashes()
            on_error.pop_all()
        return artifact

    def __enter__(self) -> Artifact:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def copy_to(self, path: Path) -> None:
        """Copy the file as it was opened, even if it has been removed or replaced since."""
        publish_copy(self._file.fileno(), path)

    def names(self) -> tuple[str, ...]:
        """Member names in the order of the file, the manifest last."""
        return tuple(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        return self._member(name).size

    def read(self, name: str) -> bytes:
        member = self._member(name)
        return self._map[member.data : member.end].tobytes()

    def json(self, name: str) -> Any:
        try:
            return msgspec.json.decode(self.read(name))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise damaged(self.path, f"'{name}' is not JSON: {error}") from error

    def tensor_names(self) -> tuple[str, ...]:
        return tuple(self._weights.specs)

    @property
    def weights_metadata(self) -> dict[str, str]:
        return dict(self._weights.metadata)

    def spec(self, name: str) -> TensorSpec:
        if name not in self._weights.specs:
            raise damaged(self.path, f"there is no tensor '{name}'")
        return self._weights.specs[name]

    def tensor(self, name: str) -> np.ndarray:
        """The tensor as a read-only view of the mapped file."""
        spec = self.spec(name)
        start = self._tensor_offset(name)
        return self._map[start : start + spec.nbytes].view(spec.dtype).reshape(spec.shape)

    def check_hashes(self) -> None:
        """Hash every member and every tensor, several at a time; raises IntegrityError."""
        jobs = [
            (f"member '{member.name}'", member.sha256, self._members[member.name].data, member.size)
            for member in self.manifest.members
        ]
        for name, sha256 in self.manifest.tensors.items():
            jobs.append(
                (f"tensor '{name}'", sha256, self._tensor_offset(name), self.spec(name).nbytes)
            )
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            found = pool.map(lambda job: digest(self._file, job[2], job[3]).sha256, jobs)
            for (label, expected, _, _), actual in zip(jobs, found, strict=True):
                if actual != expected:
                    raise damaged(self.path, f"the bytes of {label} do not match their SHA-256")

    def _member(self, name: str) -> Placed:
        if name not in self._members:
            raise damaged(self.path, f"there is no member '{name}'")
        return self._members[name]

    def _tensor_offset(self, name: str) -> int:
        return self._members[WEIGHTS].data + self._weights.starts[name]

    def _read_layout(self) -> TensorLayout:
        if WEIGHTS not in self._members:
            layout = lay_out([], {})
        else:
            member = self._members[WEIGHTS]
            prefix = os.pread(self._file.fileno(), min(8, member.size), member.data)
            size = header_size(prefix, member.size)
            layout = parse_header(os.pread(self._file.fileno(), size, member.data), member.size)
        if layout.specs.keys() != self.manifest.tensors.keys():
            raise damaged(self.path, "the manifest and the weights list different tensors")
        return layout


class ArtifactWriter:
    """
    Writes an artifact beside `path` and puts it in place when `finish` has verified it.

    Raises UsageError where `path` cannot be written and ResourceError on a full disk. Misuse by
    the caller (a tensor that does not match its spec, a missing one) is a ValueError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._staged = StagedFile(Path(path))
        self._members: list[Member | WeightsWriter] = []
        self._names: set[str] = {MANIFEST}
        self._end = 0

    def __enter__(self) -> ArtifactWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._staged.discard()

    def add(self, name: str, data: bytes) -> None:
        placed = self._claim(name, len(data), zlib.crc32(data))
        self._staged.write_at(placed.header, local_header(placed))
        self._staged.write_at(placed.data, data)
        self._members.append(
            Member(name, len(data), placed.crc32, hashlib.sha256(data).hexdigest())
        )

    def add_weights(
        self, specs: Iterable[TensorSpec], metadata: Mapping[str, str]
    ) -> WeightsWriter:
        """Lay out weights.safetensors and reserve its space; then `write` each tensor once."""
        layout = lay_out(specs, metadata)
        placed = self._claim(WEIGHTS, layout.size, 0)
        weights = WeightsWriter(self._staged, placed, layout)
        self._members.append(weights)
        return weights

    def tensor(self, name: str) -> np.ndarray:
        """A tensor already written, read back."""
        weights = next(m for m in self._members if isinstance(m, WeightsWriter))
        return weights.read(name)

    def finish(self, fields: dict[str, Any]) -> None:
        """Write the manifest from `fields` (manifest.py), verify the whole file, publish it."""
        members: list[Member] = []
        tensors: dict[str, str] = {}
        for member in self._members:
            if isinstance(member, WeightsWriter):
                tensors = member.hashes()
                member = member.sealed()
            members.append(member)
        manifest = encode_manifest(make_manifest(fields, members, tensors))
        frame = whole(members, manifest)
        for placed in frame:
            self._staged.write_at(placed.header, local_header(placed))
        self._staged.write_at(frame[-1].data, manifest)
        self._staged.write_at(frame[-1].end, directory(frame))
        self._staged.sync()
        Artifact.open(self._staged.temporary).close()
        self._staged.publish()

    def _claim(self, name: str, size: int, crc32: int) -> Placed:
        if name in self._names:
            raise ValueError(f"member '{name}' is already there")
        placed = Placed(name, size, crc32, self._end)
        self._staged.reserve(placed.header, placed.end - placed.header)
        self._names.add(name)
        self._end = placed.end
        return placed


class WeightsWriter:
    """The tensors of weights.safetensors, written at their places as they become ready."""

    def __init__(self, staged: StagedFile, placed: Placed, layout: TensorLayout) -> None:
        self._staged = staged
        self._placed = placed
        self._layout = layout
        self._hashes: dict[str, str] = {}
        staged.write_at(placed.data, layout.header)

    def __enter__(self) -> WeightsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.hashes()

    def write(self, name: str, array: np.ndarray) -> None:
        """Store one tensor; ValueError unless it is expected, new, and of the announced type."""
        spec = self._layout.specs.get(name)
        if spec is None or name in self._hashes:
            raise ValueError(f"tensor '{name}' is {'unknown' if spec is None else 'written twice'}")
        if array.dtype != spec.dtype or array.shape != spec.shape:
            raise ValueError(
                f"tensor '{name}' was announced as {spec.dtype}{list(spec.shape)}, "
                f"not {array.dtype}{list(array.shape)}"
            )
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        self._staged.write_at(self._placed.data + self._layout.starts[name], data)
        self._hashes[name] = hashlib.sha256(data).hexdigest()

    def read(self, name: str) -> np.ndarray:
        """A tensor already written; a copy, so that its memory is free again after use."""
        spec = self._layout.specs[name]
        start = self._placed.data + self._layout.starts[name]
        return np.frombuffer(self._staged.read_at(start, spec.nbytes), spec.dtype).reshape(
            spec.shape
        )

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each tensor; ValueError while one is missing."""
        missing = self._layout.specs.keys() - self._hashes.keys()
        if missing:
            raise ValueError(f"{len(missing)} tensors were not written, first '{min(missing)}'")
        return {name: self._hashes[name] for name in self._layout.specs}

    def sealed(self) -> Member:
        """The finished member, its sums taken from what is on disk."""
        sums = digest(self._staged, self._placed.data, self._placed.size)
        return Member(WEIGHTS, self._placed.size, sums.crc32, sums.sha256)

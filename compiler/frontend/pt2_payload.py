"""
Stored tensors of a `.pt2` archive: where their bytes lie, checked, and fake tensors in their place.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ...dialects.errors import IntegrityError
from .archive import Archive, Stored, changed
from .pt2_arguments import SCALAR_TYPES, malformed
from .pt2_graph import fake_tensor
from .pt2_schema import Payload, PayloadConfig, SymInt, decode
from .pt2_sizes import InputSizes
from .torch_weights import dtype_name
from .weights import DTYPES, Extent, FileSource, span

MAX_JSON = 1 << 29
"""Bytes of the largest JSON member that is read."""

_PAYLOAD_NAME = re.compile(r"(weight|tensor)_\d{1,9}\Z")
_MAX_EXPANSION = 1 << 26


class ArchiveSource(FileSource):
    """
    The tensors of a `.pt2` archive, read in place.

    The first read of a member checks its CRC, in memory where all of it was asked for.
    """

    def __init__(
        self, path: Path, extents: Mapping[str, Extent], members: Iterable[Stored]
    ) -> None:
        super().__init__([path], extents)
        self._members = sorted((m for m in members if m.size), key=lambda member: member.offset)
        self._intact: set[int] = set()

    def _bytes(self, file: int, offset: int, size: int) -> np.ndarray:
        data = super()._bytes(file, offset, size)
        index = bisect_right(self._members, offset, key=lambda member: member.offset) - 1
        if size and index not in self._intact:
            self._check(self._members[index], data)
            self._intact.add(index)
        return data

    def _check(self, member: Stored, data: np.ndarray) -> None:
        whole = data.nbytes == member.size
        if whole and zlib.crc32(data.data) == member.crc:
            return
        if whole or not member.intact(self._files[0].fileno()):
            raise changed(self.paths[0], member.name)


def read_payloads(archive: Archive, member: str, prefix: str) -> dict[str, tuple[Payload, str]]:
    config = decode(archive.read(member, MAX_JSON), PayloadConfig, member).config
    folder, kind = prefix.split("/")
    for name, payload in config.items():
        if payload.use_pickle or payload.tensor_meta is None:
            refuse(archive, f"the tensor '{name}' is pickled")
        if not _PAYLOAD_NAME.match(payload.path_name) or not payload.path_name.startswith(kind):
            refuse(archive, f"the tensor '{name}' lies in '{payload.path_name[:80]}'")
    return {
        name: (payload, f"data/{folder}/{payload.path_name}") for name, payload in config.items()
    }


def extents_of(
    archive: Archive, root: str, payloads: Mapping[str, tuple[Payload, str]]
) -> tuple[dict[str, Extent], tuple[str, ...]]:
    extents, empty = {}, []
    for name, (payload, inner) in payloads.items():
        extent = _extent(archive, f"{root}/{inner}", name, payload)
        if extent is None:
            empty.append(name)
        else:
            extents[name] = extent
    return extents, tuple(sorted(empty))


def _extent(archive: Archive, member: str, name: str, payload: Payload) -> Extent | None:
    """Where the tensor's bytes lie, checked against the member's size; None if it has no bytes."""
    meta = payload.tensor_meta
    assert meta is not None
    if meta.dtype not in SCALAR_TYPES or dtype_name(SCALAR_TYPES[meta.dtype]) not in DTYPES:
        refuse(archive, f"the tensor '{name}' has an unknown dtype")
    dtype = dtype_name(SCALAR_TYPES[meta.dtype])
    shape, strides = _integers(meta.sizes), _integers(meta.strides)
    (first,) = _integers([meta.storage_offset])
    if len(shape) != len(strides):
        refuse(archive, f"the tensor '{name}' has strides for another rank")
    item, length = DTYPES[dtype].itemsize, archive.size(member)
    needed = span(shape, strides) * item
    if length == 0 and needed > 0:
        return None
    dense = torch.Size(shape).numel() * item
    if first * item + needed > length or dense > max(needed, _MAX_EXPANSION):
        refuse(archive, f"the tensor '{name}' reaches past its {length} bytes")
    offset = archive.offset(member) + first * item
    storage = f"{member}+{first}/{strides}" if needed else name
    return Extent(0, offset, shape, strides, dtype, storage)


def _integers(sizes: list[SymInt]) -> tuple[int, ...]:
    values = tuple(size.content for size in sizes)
    if not all(isinstance(value, int) and 0 <= value < 2**48 for value in values):
        malformed("a stored tensor has a symbolic or impossible shape")
    return values


def fake_payloads(
    mode: FakeTensorMode,
    sizes: InputSizes,
    payloads: Mapping[str, Payload],
    without_bytes: Collection[str],
) -> dict[str, torch.Tensor]:
    """
    Fake tensors by name; tied names share one, as they share their bytes.

    Tensors saved without bytes are never tied: torch.export.save files all of one shape under
    one path then, whether they were tied or not.
    """
    tensors: dict[str, torch.Tensor] = {}
    shared: dict[str, torch.Tensor] = {}
    for name, payload in payloads.items():
        assert payload.tensor_meta is not None
        key = f"{payload.path_name} {payload.is_param} {payload.tensor_meta}"
        key = name if name in without_bytes else key
        if key not in shared:
            tensor = fake_tensor(mode, payload.tensor_meta, sizes)
            shared[key] = nn.Parameter(tensor, False) if payload.is_param else tensor
        tensors[name] = shared[key]
    return tensors


def refuse(archive: Archive, why: str) -> NoReturn:
    """Raise the error for an archive that is not what torch.export.save writes."""
    raise IntegrityError(
        "pt2-refused",
        "the archive is not a plain exported program",
        where=str(archive.path),
        why=why,
        next_step="export the model again with torch.export.save(program, 'model.pt2')",
    )

"""
Where a program's tensors come from, one at a time.

A `WeightSource` answers for names of parameters, buffers and constants. Reading gives a fresh
array, and files are read with `pread` rather than mapped, so peak memory is the largest tensor
(or the largest run of rows) that a caller holds. Equal `TensorInfo.storage` with equal shape and
dtype means tied: one tensor under several names.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ...dialects.errors import IntegrityError, UsageError

DTYPES: dict[str, np.dtype[Any]] = {
    **{
        name: np.dtype(name)
        for name in (
            *("float64", "float32", "float16", "complex64", "complex128", "bool"),
            *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
        )
    },
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "float8_e8m0fnu": np.dtype(ml_dtypes.float8_e8m0fnu),
}
"""Element types by the name that torch and ml_dtypes share."""

_READ_STEP = 1 << 30
_HASH_STEP = 1 << 22


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Shape, dtype name and the key of the storage behind a tensor."""

    shape: tuple[int, ...]
    dtype: str
    storage: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


class WeightSource(ABC):
    """Tensors by name; nothing is held in memory between calls."""

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""

    @abstractmethod
    def info(self, name: str) -> TensorInfo:
        """Shape, dtype and storage; UsageError for a name it does not have."""

    @abstractmethod
    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows start ≤ i < stop of axis 0 as a fresh, writable, C-contiguous array."""

    @abstractmethod
    def content_hash(self) -> str:
        """sha256 in hex over everything the source could return, read as a stream."""

    @abstractmethod
    def close(self) -> None:
        """Release files; reading afterwards is an error."""

    def files(self) -> tuple[Path, ...]:
        """The files that the tensors are read from."""
        return ()

    def read(self, name: str) -> np.ndarray:
        """The whole tensor as a fresh, writable, C-contiguous array."""
        shape = self.info(name).shape
        if not shape:
            return self.read_rows(name, 0, 1).reshape(())
        return self.read_rows(name, 0, shape[0])

    def __enter__(self) -> WeightSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def unknown_name(name: str, names: Iterable[str]) -> UsageError:
    """The error for a name that a source lacks, with the nearest names it has."""
    near = get_close_matches(name, list(names), n=3)
    return UsageError(
        "weight-unknown",
        f"there is no tensor '{name}'",
        next_step=f"did you mean {', '.join(near)}?" if near else "",
    )


def check_rows(info: TensorInfo, start: int, stop: int) -> tuple[int, ...]:
    """The shape of those rows (a scalar counts as one row); ValueError if out of range."""
    rows = info.shape[0] if info.shape else 1
    if not 0 <= start <= stop <= rows:
        raise ValueError(f"rows {start}:{stop} of {rows}")
    return (stop - start, *info.shape[1:])


@dataclass(frozen=True, slots=True)
class Extent:
    """A tensor inside a file: `offset` in bytes of its first element, `strides` in elements."""

    file: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    storage: str


class FileSource(WeightSource):
    """Tensors that lie as raw little-endian bytes in one or more files."""

    def __init__(self, paths: Iterable[Path], extents: Mapping[str, Extent]) -> None:
        self.paths = tuple(paths)
        self._extents = dict(sorted(extents.items()))
        self._files = [path.open("rb", buffering=0) for path in self.paths]

    def names(self) -> tuple[str, ...]:
        return tuple(self._extents)

    def info(self, name: str) -> TensorInfo:
        extent = self._extent(name)
        return TensorInfo(extent.shape, extent.dtype, extent.storage)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        extent = self._extent(name)
        dtype = DTYPES[extent.dtype]
        shape = check_rows(self.info(name), start, stop)
        strides = extent.strides or (1,)
        offset = extent.offset + start * strides[0] * dtype.itemsize
        raw = self._bytes(extent.file, offset, span(shape, strides) * dtype.itemsize)
        if strides == contiguous_strides(shape) or 0 in shape:
            return raw.view(dtype).reshape(shape)
        steps = tuple(stride * dtype.itemsize for stride in strides)
        flat = raw.view(dtype)
        return np.array(np.lib.stride_tricks.as_strided(flat, shape, steps), order="C")

    def files(self) -> tuple[Path, ...]:
        return self.paths

    def content_hash(self) -> str:
        digest = hashlib.sha256()
        for file in self._files:
            size = os.fstat(file.fileno()).st_size
            digest.update(size.to_bytes(8, "little"))
            for offset in range(0, size, _HASH_STEP):
                digest.update(os.pread(file.fileno(), _HASH_STEP, offset))
        return digest.hexdigest()

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _extent(self, name: str) -> Extent:
        if name not in self._extents:
            raise unknown_name(name, self._extents)
        return self._extents[name]

    def _bytes(self, file: int, offset: int, size: int) -> np.ndarray:
        data = np.empty(size, np.uint8)
        view = data.data
        done = 0
        while done < size:
            count = os.preadv(
                self._files[file].fileno(), [view[done : done + _READ_STEP]], offset + done
            )
            if count == 0:
                raise IntegrityError(
                    "weights-cut-short",
                    "the weight file ends inside a tensor",
                    where=str(self.paths[file]),
                    why="it was changed after it was opened",
                    next_step="do not write to the file while qcc reads it",
                )
            done += count
        return data


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """
    Strides, in elements, of a C-contiguous tensor.

    >>> contiguous_strides((2, 3, 4))
    (12, 4, 1)
    """
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """
    Elements from the first to the last that a strided tensor touches.

    >>> span((2, 3), (3, 1)), span((4, 1), (0, 1)), span((0, 5), (5, 1))
    (6, 1, 0)
    """
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


@dataclass(frozen=True, slots=True)
class Binding:
    """One name of a program: a tensor of some source, and the dtype the program wants."""

    source: WeightSource
    name: str
    dtype: str


class BoundSource(WeightSource):
    """A program's names, each bound to a tensor of another source and cast where dtypes differ."""

    def __init__(self, bindings: Mapping[str, Binding]) -> None:
        self._bindings = dict(sorted(bindings.items()))
        self._sources = list({id(b.source): b.source for b in self._bindings.values()}.values())

    def names(self) -> tuple[str, ...]:
        return tuple(self._bindings)

    def info(self, name: str) -> TensorInfo:
        binding = self._binding(name)
        info = binding.source.info(binding.name)
        place = self._sources.index(binding.source)
        return TensorInfo(info.shape, binding.dtype, f"{place}:{info.storage}")

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        binding = self._binding(name)
        rows = binding.source.read_rows(binding.name, start, stop)
        return rows.astype(DTYPES[binding.dtype], copy=False)

    def files(self) -> tuple[Path, ...]:
        return tuple(path for source in self._sources for path in source.files())

    def content_hash(self) -> str:
        table = [
            [name, self._sources.index(binding.source), binding.name, binding.dtype]
            for name, binding in self._bindings.items()
        ]
        digest = hashlib.sha256(json.dumps(table).encode())
        for source in self._sources:
            digest.update(source.content_hash().encode())
        return digest.hexdigest()

    def close(self) -> None:
        for source in self._sources:
            source.close()

    def _binding(self, name: str) -> Binding:
        if name not in self._bindings:
            raise unknown_name(name, self._bindings)
        return self._bindings[name]

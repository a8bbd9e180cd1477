"""
Weights in safetensors files: a length, a JSON header, then raw bytes.

The header is checked in full before a byte of a tensor is read: its size (at most 100 MB, the
format's own limit), its fields, every dtype and shape against its byte range, and that the ranges
cover the rest of the file without holes or overlaps (safetensors' format description).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import msgspec

from ...dialects.errors import IntegrityError, UsageError
from .weights import DTYPES, Extent, FileSource, contiguous_strides

_MAX_HEADER = 100_000_000
_MAX_RANK = 64
_ELEMENTS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


class SafetensorsSource(FileSource):
    """
    One file, several files, or the shards named by a `*.index.json`.

    Raises UsageError for a file that cannot be opened, IntegrityError for one that is malformed,
    for two files that hold the same name, and for an index that disagrees with its shards.
    """

    def __init__(self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> None:
        given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        files = [shard for path in given for shard in _shards(Path(path))]
        extents: dict[str, Extent] = {}
        for number, path in enumerate(files):
            for name, extent in _read_header(path, number).items():
                if name in extents:
                    _refuse(path, f"the tensor '{name}' is also in another file")
                extents[name] = extent
        super().__init__(files, extents)


def looks_like_safetensors(path: Path) -> bool:
    """Whether the file begins as a safetensors file does: a plausible length, then `{`."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and _header_size(head) <= _MAX_HEADER


def read_metadata(path: Path) -> dict[str, str]:
    """The free-form `__metadata__` of one file, empty if it has none."""
    metadata = _parse_header(path, _header_bytes(path)).get("__metadata__", msgspec.Raw(b"{}"))
    try:
        return msgspec.json.decode(metadata, type=dict[str, str])
    except msgspec.DecodeError as error:
        _refuse(path, f"__metadata__ is not text: {error}")


def _shards(path: Path) -> list[Path]:
    if path.suffix != ".json":
        return [path]
    try:
        index = msgspec.json.decode(path.read_bytes(), type=_Index)
    except OSError as error:
        raise _unreadable(path, error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _refuse(path, f"it is not an index of shards: {error}")
    names = sorted(set(index.weight_map.values()))
    for name in names:
        if Path(name).name != name or name in ("", ".", ".."):
            _refuse(path, f"the shard {name!r} is not a file beside the index")
    return [path.parent / name for name in names]


def _header_size(head: bytes) -> int:
    return int.from_bytes(head[:8], "little")


def _header_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(8)
            size = _header_size(head)
            if len(head) < 8 or size > _MAX_HEADER:
                _refuse(path, f"its header length is {size}, the limit is {_MAX_HEADER}")
            header = file.read(size)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(header) != size:
        _refuse(path, "it ends inside its header")
    return header


def _parse_header(path: Path, header: bytes) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(header, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse(path, f"its header is not a JSON object: {error}")


def _read_header(path: Path, number: int) -> dict[str, Extent]:
    header = _header_bytes(path)
    data_at = 8 + len(header)
    entries: dict[str, _Entry] = {}
    for name, raw in _parse_header(path, header).items():
        if name == "__metadata__":
            continue
        try:
            entries[name] = msgspec.json.decode(raw, type=_Entry)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _refuse(path, f"the entry of '{name}' is malformed: {error}")
        _check_entry(path, name, entries[name])
    _check_cover(path, entries, path.stat().st_size - data_at)
    return {
        name: Extent(
            file=number,
            offset=data_at + entry.data_offsets[0],
            shape=tuple(entry.shape),
            strides=contiguous_strides(tuple(entry.shape)),
            dtype=_ELEMENTS[entry.dtype],
            storage=f"{number}@{entry.data_offsets[0]}" if math.prod(entry.shape) else name,
        )
        for name, entry in entries.items()
    }


def _check_entry(path: Path, name: str, entry: _Entry) -> None:
    if entry.dtype not in _ELEMENTS:
        _refuse(path, f"'{name}' has the unknown dtype {entry.dtype[:20]!r}")
    if len(entry.shape) > _MAX_RANK or any(not 0 <= size < 2**48 for size in entry.shape):
        _refuse(path, f"'{name}' has an impossible shape")
    begin, end = entry.data_offsets
    size = math.prod(entry.shape) * DTYPES[_ELEMENTS[entry.dtype]].itemsize
    if begin < 0 or end - begin != size:
        _refuse(path, f"'{name}' needs {size} bytes and its range is {begin}:{end}")


def _check_cover(path: Path, entries: dict[str, _Entry], size: int) -> None:
    """Ranges in order must touch, from the end of the header to the end of the file."""
    at = 0
    for begin, end in sorted(entry.data_offsets for entry in entries.values()):
        if begin != at:
            _refuse(path, f"its tensors {'overlap' if begin < at else 'leave a hole'} at {begin}")
        at = end
    if at != size:
        _refuse(path, f"its tensors end at {at} and the file's data at {size}")


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        "file-unreadable",
        f"cannot open '{path}'",
        why=error.strerror or str(error),
        next_step="give a file that exists and that you may read",
    )


def _refuse(path: Path, why: str) -> NoReturn:
    raise IntegrityError(
        "safetensors-malformed",
        "the safetensors file is damaged",
        where=str(path),
        why=why,
        next_step="copy or write the file again",
    )

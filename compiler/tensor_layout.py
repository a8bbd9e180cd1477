"""
The safetensors header of `weights.safetensors`, laid out before any tensor exists.

Tensors are ordered by falling item size and then by name, so each one is aligned to its items
without holes between them, which safetensors forbids. The header is padded with spaces until the
data begins on a 64-byte boundary. As the header is a function of the specs and the metadata, a
reader parses it, lays it out again and compares bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import ml_dtypes
import msgspec
import numpy as np
from numpy.typing import DTypeLike

from ..dialects.errors import IntegrityError
from .zip_layout import ALIGNMENT

# safetensors 0.8 refuses a longer one, and so does this reader.
MAX_HEADER = 100_000_000
_METADATA = "__metadata__"

_DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "F32": np.dtype(np.float32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F64": np.dtype(np.float64),
}
_SPELLINGS = {dtype: spelling for spelling, dtype in _DTYPES.items()}


@dataclass(frozen=True, slots=True, init=False)
class TensorSpec:
    """Name, shape and NumPy dtype of one stored tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __init__(self, name: str, shape: Iterable[int], dtype: DTypeLike) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "shape", tuple(int(size) for size in shape))
        object.__setattr__(self, "dtype", np.dtype(dtype))

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """Where each tensor lies; `starts` are byte offsets from the start of the member."""

    header: bytes
    specs: dict[str, TensorSpec]
    starts: dict[str, int]
    metadata: dict[str, str]
    size: int


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data_offsets: tuple[int, int]


def lay_out(specs: Iterable[TensorSpec], metadata: Mapping[str, str]) -> TensorLayout:
    """Raises ValueError for a repeated name or a dtype that safetensors cannot hold."""
    ordered = sorted(specs, key=lambda spec: (-spec.dtype.itemsize, spec.name))
    by_name = {spec.name: spec for spec in ordered}
    if len(by_name) != len(ordered) or _METADATA in by_name:
        raise ValueError("tensor names must be distinct")
    header: dict[str, object] = {}
    if metadata:
        header[_METADATA] = dict(sorted(metadata.items()))
    offsets: dict[str, int] = {}
    end = 0
    for spec in ordered:
        if spec.dtype not in _SPELLINGS:
            raise ValueError(f"tensor '{spec.name}': safetensors has no dtype {spec.dtype}")
        offsets[spec.name], end = end, end + spec.nbytes
        header[spec.name] = _Entry(_SPELLINGS[spec.dtype], spec.shape, (offsets[spec.name], end))
    text = msgspec.json.encode(header)
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    start = 8 + len(text)
    starts = {name: start + offset for name, offset in offsets.items()}
    return TensorLayout(
        struct.pack("<Q", len(text)) + text, by_name, starts, dict(metadata), start + end
    )


def pack_tensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays as one small safetensors file, laid out as `lay_out` says."""
    layout = lay_out([TensorSpec(name, a.shape, a.dtype) for name, a in arrays.items()], {})
    ordered = (np.ascontiguousarray(arrays[name]).tobytes() for name in layout.specs)
    return layout.header + b"".join(ordered)


def unpack_tensors(data: bytes) -> dict[str, np.ndarray]:
    """What `pack_tensors` packed, read-only; IntegrityError for anything else."""
    layout = parse_header(data[: header_size(data[:8], len(data))], len(data))
    return {
        name: np.frombuffer(data, np.uint8, spec.nbytes, layout.starts[name])
        .view(spec.dtype)
        .reshape(spec.shape)
        for name, spec in layout.specs.items()
    }


def header_size(prefix: bytes, member_size: int) -> int:
    """Bytes of the header, its eight-byte length included, from the member's first eight bytes."""
    if len(prefix) < 8:
        raise _bad_header("the file is shorter than its length field")
    (length,) = struct.unpack("<Q", prefix[:8])
    if length > min(MAX_HEADER, member_size - 8):
        raise _bad_header(f"a header of {length} bytes does not fit")
    return 8 + length


def parse_header(header: bytes, member_size: int) -> TensorLayout:
    """
    The layout that `header` (length field included) describes.

    Raises IntegrityError unless it is exactly the header that `lay_out` writes.
    """
    try:
        raw = msgspec.json.decode(header[8:], type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(raw.pop(_METADATA, b"{}"), type=dict[str, str])
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in raw.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_header(str(error)) from error
    layout = lay_out([_spec(name, entry) for name, entry in entries.items()], metadata)
    if layout.header != header or layout.size != member_size:
        raise _bad_header("it is not laid out as qcc lays out tensors")
    return layout


def _spec(name: str, entry: _Entry) -> TensorSpec:
    if entry.dtype not in _DTYPES:
        raise _bad_header(f"tensor {name!r} has the unknown dtype {entry.dtype[:20]!r}")
    dtype = _DTYPES[entry.dtype]
    # NumPy refuses extents whose product overflows even where another extent is zero.
    if math.prod(max(size, 1) for size in entry.shape) * dtype.itemsize >= 2**63:
        raise _bad_header(f"tensor {name!r} has an impossible shape")
    if len(entry.shape) > 64:
        raise _bad_header(f"tensor {name!r} has {len(entry.shape)} dimensions")
    return TensorSpec(name, entry.shape, dtype)


def _bad_header(why: str) -> IntegrityError:
    return IntegrityError(
        "artifact-tensor-header",
        "the header of weights.safetensors is damaged",
        why=why,
        next_step="compile the model again, or copy the artifact again",
    )

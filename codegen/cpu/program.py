"""A compiled program for the CPU: the object, and what a caller must know to use it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...dialects.errors import IntegrityError


@dataclass(frozen=True, slots=True)
class CachePart:
    """One array of a cache: `width` numbers of NumPy's type `dtype` for a row."""

    role: str
    dtype: str
    width: int

    @property
    def row_bytes(self) -> int:
        return self.width * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class CachedRows:
    """
    The keys or the values of a cache: rows of `depth` floats as `parts` hold them.

    Rows in a `format` come with marks: one i64 for a head of a sequence, 1 + the first position
    whose row was not finite and so cannot be held, or 0.
    """

    depth: int
    format: str | None
    parts: tuple[CachePart, ...]

    @property
    def row_bytes(self) -> int:
        return sum(part.row_bytes for part in self.parts)

    @property
    def array_count(self) -> int:
        """Arrays in the runtime's table: the parts, and the marks of packed rows."""
        return len(self.parts) + (self.format is not None)


@dataclass(frozen=True, slots=True)
class CacheShape:
    """One position of a KV cache: a row of keys and a row of values for each of `heads`."""

    heads: int
    keys: CachedRows
    values: CachedRows

    @property
    def position_bytes(self) -> int:
        return self.heads * (self.keys.row_bytes + self.values.row_bytes)

    @property
    def position_floats(self) -> int:
        return self.heads * (self.keys.depth + self.values.depth)


@dataclass(frozen=True, slots=True)
class Code:
    """
    `object` is a relocatable ELF file. `parts` are the stored tensors whose addresses it takes,
    in order; `results` the (element type, rank) of what its entry returns; `caches` the KV caches
    of its function `step`, in order, none if it has no such function. `device_calls` are the
    (layer, parameter) of the calls that another device answers, by their number.
    """

    object: bytes
    parts: tuple[str, ...]
    results: tuple[tuple[str, int], ...]
    caches: tuple[CacheShape, ...] = ()
    device_calls: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "parts": list(self.parts),
            "results": [list(result) for result in self.results],
            "caches": [asdict(cache) for cache in self.caches],
        } | ({"device_calls": list(map(list, self.device_calls))} if self.device_calls else {})

    @classmethod
    def from_json(cls, data: dict[str, Any], object_: bytes) -> Code:
        """The code that `as_json` described, with its object; raises IntegrityError otherwise."""
        try:
            results = tuple((str(element), int(rank)) for element, rank in data["results"])
            caches = tuple(
                CacheShape(cache["heads"], _rows(cache["keys"]), _rows(cache["values"]))
                for cache in data["caches"]
            )
            calls = tuple((str(a), str(b)) for a, b in data.get("device_calls", []))
            return cls(object_, tuple(map(str, data["parts"])), results, caches, calls)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                "artifact-code",
                "the description of the code is damaged",
                why=repr(error),
                next_step="compile the model again",
            ) from error


def _rows(data: dict[str, Any]) -> CachedRows:
    parts = tuple(
        CachePart(part["role"], np.dtype(part["dtype"]).name, int(part["width"]))
        for part in data["parts"]
    )
    return CachedRows(int(data["depth"]), data["format"], parts)

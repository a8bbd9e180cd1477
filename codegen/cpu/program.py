"""A compiled program for the CPU: the object, and what a caller must know to use it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Floats of one position of a KV cache: `heads` rows of a key and of a value."""

    heads: int
    key_depth: int
    value_depth: int


@dataclass(frozen=True, slots=True)
class Code:
    """
    `object` is a relocatable ELF file. `parts` are the stored tensors whose addresses it takes,
    in order; `results` the (element type, rank) of what its entry returns; `caches` the KV caches
    of its function `step`, in order, none if it has no such function.
    """

    object: bytes
    parts: tuple[str, ...]
    results: tuple[tuple[str, int], ...]
    caches: tuple[CacheShape, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "parts": list(self.parts),
            "results": [list(result) for result in self.results],
            "caches": [asdict(cache) for cache in self.caches],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], object_: bytes) -> Code:
        """The code that `as_json` described, with its object."""
        results = tuple((str(element), int(rank)) for element, rank in data["results"])
        caches = tuple(CacheShape(**cache) for cache in data["caches"])
        return cls(object_, tuple(data["parts"]), results, caches)

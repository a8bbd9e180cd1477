"""Weights that layers read the other way round: `name^T` is the transpose of the matrix `name`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...dialects.errors import UnsupportedError
from ...dialects.qcc import TRANSPOSE
from .weights import TensorInfo, WeightSource


class WithTransposes(WeightSource):
    """What `source` has, and the transpose of each of its matrices, made as it is read."""

    def __init__(self, source: WeightSource) -> None:
        """UnsupportedError where a tensor has the name that the transpose of another would."""
        self._source = source
        self._names = frozenset(source.names())
        for name in self._names:
            other = name.removesuffix(TRANSPOSE)
            if other != name and other in self._names and len(source.info(other).shape) == 2:
                raise UnsupportedError(
                    "weight-name",
                    f"'{name}' is what the transpose of '{other}' is called",
                    next_step="rename one of them",
                )

    def names(self) -> tuple[str, ...]:
        return self._source.names()

    def info(self, name: str) -> TensorInfo:
        own = self._own(name)
        info = self._source.info(own)
        if own == name:
            return info
        return replace(info, shape=info.shape[::-1], storage=info.storage + TRANSPOSE)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        own = self._own(name)
        if own == name:
            return self._source.read_rows(name, start, stop)
        return np.ascontiguousarray(self._source.read(own)[:, start:stop].T)

    def read(self, name: str) -> np.ndarray:
        own = self._own(name)
        values = self._source.read(own)
        return values if own == name else np.ascontiguousarray(values.T)

    def _own(self, name: str) -> str:
        """The tensor of the source that `name` is, or is the transpose of."""
        return name if name in self._names else name.removesuffix(TRANSPOSE)

    def content_hash(self) -> str:
        return self._source.content_hash()

    def close(self) -> None:
        self._source.close()

    def files(self) -> tuple[Path, ...]:
        return self._source.files()

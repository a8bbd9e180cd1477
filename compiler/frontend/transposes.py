"""Weights that layers read the other way round: `name^T` is the transpose of the matrix `name`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...dialects.qcc import TRANSPOSE
from .weights import TensorInfo, WeightSource


class WithTransposes(WeightSource):
    """What `source` has, and the transpose of each of its matrices, made as it is read."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source

    def names(self) -> tuple[str, ...]:
        return self._source.names()

    def info(self, name: str) -> TensorInfo:
        own = name.removesuffix(TRANSPOSE)
        info = self._source.info(own)
        if own == name:
            return info
        return replace(info, shape=info.shape[::-1], storage=info.storage + TRANSPOSE)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        own = name.removesuffix(TRANSPOSE)
        if own == name:
            return self._source.read_rows(name, start, stop)
        return np.ascontiguousarray(self._source.read(own)[:, start:stop].T)

    def content_hash(self) -> str:
        return self._source.content_hash()

    def close(self) -> None:
        self._source.close()

    def files(self) -> tuple[Path, ...]:
        return self._source.files()

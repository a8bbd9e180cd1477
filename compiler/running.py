"""Running a program's code on stored tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from ..codegen.cpu.runtime import BufferType, CompiledObject
from .element_types import numpy_dtype


def default_threads() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0))


class RunningCode:
    """Code with its parameters bound, called with arrays in the order of the signature."""

    def __init__(
        self,
        code: bytes,
        parts: Sequence[str],
        results: Sequence[tuple[str, int]],
        tensor: Callable[[str], np.ndarray],
        threads: int | None = None,
    ) -> None:
        parameters = [tensor(name) for name in parts]
        self._object = CompiledObject(code, parameters, threads or default_threads())
        self._results = [BufferType(numpy_dtype(element), rank) for element, rank in results]

    def __call__(self, inputs: Sequence[np.ndarray], entry: str = "main") -> list[np.ndarray]:
        return self._object.call(entry, inputs, self._results)

    def close(self) -> None:
        """Stop the threads and unload the code."""
        self._object.close()

"""Running a program's code on stored tensors."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ..codegen.cpu.program import Code
from ..codegen.cpu.runtime import MOST_THREADS, BufferType, CacheTable, CompiledObject, Device
from ..dialects.errors import UnsupportedError
from .element_types import numpy_dtype

_FIRST_CAPACITY = 256


def default_threads() -> int:
    """The processors this process may use, as far as kernels can share work among them."""
    return min(len(os.sched_getaffinity(0)), MOST_THREADS)


class Caches(Protocol):
    """The keys and values of `length` positions, which steps extend."""

    length: int


class Running(ABC):
    """A program with its parameters bound, called with arrays in the order of the signature."""

    @property
    @abstractmethod
    def steps(self) -> bool:
        """Whether it has a function that continues sequences."""

    @abstractmethod
    def call(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]: ...

    def reproduced(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """
        The results with all but the device's own part run by the reference interpreter, equal to
        its results in every bit; None where code cannot be run so.
        """
        return None

    def captured(self, inputs: Sequence[np.ndarray]) -> Any:
        """A call that is recorded once for inputs of these shapes, and has `close`."""
        raise UnsupportedError(
            "captured-target",
            "only calls of CUDA kernels are recorded",
            why="a CUDA graph saves the time of launching them one by one",
            next_step="call the module itself",
        )

    @abstractmethod
    def caches(self, batch: int) -> Caches:
        """Empty ones, for so many sequences."""

    @abstractmethod
    def step(self, tokens: np.ndarray, caches: Any, *, last_only: bool = False) -> list[np.ndarray]:
        """
        The results for `tokens` [batch, T] that follow those already in `caches`.

        Their keys and values are appended. With `last_only`, results may lack the rows of all
        tokens but the last. Steps of other caches may run at the same time.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what it holds."""

    def in_two_steps(self, tokens: np.ndarray) -> list[np.ndarray]:
        """
        The results for `tokens` [batch, T], the last token after the others.

        A result without a row for each token is that of the last step.
        """
        caches = self.caches(len(tokens))
        parts = [part for part in (tokens[:, :-1], tokens[:, -1:]) if part.shape[1]]
        pieces = [self.step(part, caches) for part in parts]
        return [_joined(parts, results) for results in zip(*pieces, strict=True)]


class RunningCode(Running):
    """Code for the CPU."""

    def __init__(
        self,
        code: Code,
        tensor: Callable[[str], np.ndarray],
        threads: int | tuple[int, ...] | None = None,
        device: Device | None = None,
    ) -> None:
        """
        `threads`: how many, or the processor of each; None for one on every processor. `device`
        answers the calls of the code.
        """
        parameters = [tensor(name) for name in code.parts]
        self.code = code
        processors = threads if isinstance(threads, tuple) else ()
        count = len(threads) if isinstance(threads, tuple) else threads or default_threads()
        self._object = CompiledObject(code.object, parameters, count, processors, device)
        self._results = tuple(
            BufferType(numpy_dtype(element), rank) for element, rank in code.results
        )

    def call(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self._object.call("main", inputs, self._results)

    @property
    def steps(self) -> bool:
        return bool(self.code.caches)

    def caches(self, batch: int) -> KeyValueCaches:
        return KeyValueCaches(self.code, batch)

    def step(
        self, tokens: np.ndarray, caches: KeyValueCaches, *, last_only: bool = False
    ) -> list[np.ndarray]:
        caches.reserve(caches.length + tokens.shape[1])
        past = np.array(caches.length, np.int64)
        first = np.array(tokens.shape[1] - 1 if last_only else 0, np.int64)
        table = CacheTable(caches.capacity, caches.arrays)
        results = self._object.call("step", [tokens, past, first], self._results, table)
        caches.length += tokens.shape[1]
        return results

    def close(self) -> None:
        """Stop the threads and unload the code."""
        self._object.close()


def _joined(parts: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> np.ndarray:
    by_token = all(
        result.shape[:2] == part.shape for part, result in zip(parts, results, strict=True)
    )
    return np.concatenate(results, 1) if by_token else results[-1]


class KeyValueCaches:
    """
    The keys and values of `length` positions of `batch` sequences; grows by doubling.

    `arrays` are in the order of the code's table: of the keys and then of the values of each
    cache, the parts [batch, heads, capacity, width] and, where they are packed, the marks
    [batch, heads].
    """

    def __init__(self, code: Code, batch: int) -> None:
        self.length = 0
        self.capacity = 0
        self.arrays: list[np.ndarray] = []
        self._code = code
        self._batch = batch

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, spare capacity included."""
        return sum(array.nbytes for array in self.arrays)

    def reserve(self, positions: int) -> None:
        """Make room for that many positions in all, keeping what is there."""
        if positions <= self.capacity:
            return
        capacity = max(positions, 2 * self.capacity, _FIRST_CAPACITY)
        grown = list(self._empty(capacity))
        for old, new in zip(self.arrays, grown, strict=False):
            held = slice(None) if old.ndim == 2 else slice(self.length)
            new[..., held, :] = old[..., held, :]
        self.arrays, self.capacity = grown, capacity

    def _empty(self, capacity: int) -> Iterator[np.ndarray]:
        for cache in self._code.caches:
            planes = self._batch, cache.heads
            for rows in (cache.keys, cache.values):
                for part in rows.parts:
                    yield np.zeros((*planes, capacity, part.width), part.dtype)
                if rows.format is not None:
                    yield np.zeros(planes, np.int64)

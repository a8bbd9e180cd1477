"""
A driver that keeps memory in NumPy, runs kernels in the emulator, and records its calls.

What the driver API's documentation calls an error is an AssertionError with the name that it has
there: these are faults of the runtime, which no user causes.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from qcc.codegen.cuda.driver import DYNAMIC_SHARED_DEFAULT
from qcc.codegen.cuda.emulator.launch import EmulatedModule, Mode, device_array, tensor_map

OWN_STREAM = 1
MOST_BLOCKS = ((1 << 31) - 1, 65535, 65535)
MOST_THREADS = 1024
CACHE = 1 << 16
MOST_SHARED = {8: 163 << 10, 9: 227 << 10, 12: 99 << 10}
"""Bytes a block may ask for, by the major number of the compute capability."""


class RecordedDriver:
    """`cubins` are keys of `modules`; addresses are those of NumPy's memory."""

    def __init__(
        self, modules: dict[bytes, EmulatedModule], capability: tuple[int, int] = (8, 0)
    ) -> None:
        self.modules, self._capability = modules, capability
        self.calls: list[tuple[Any, ...]] = []
        self.memory: dict[int, np.ndarray] = {}
        self.loaded: list[bytes] = []
        self.graphs: list[list[tuple[Any, ...]]] = []
        self.ordinal = 0
        self.ordinals: dict[int, int] = {}
        self.marks: dict[int, int] = {}
        self.stream, self.closed = OWN_STREAM, False
        self._recording: list[tuple[Any, ...]] | None = None
        self._owner: int | None = None
        self._shared: dict[tuple[bytes, str], int] = {}

    def _use(self, *, waits: bool = False) -> None:
        """The stream gets work, which `waits` says that the host waits for."""
        assert not self.closed, "CUDA_ERROR_CONTEXT_IS_DESTROYED"
        assert self._owner in (None, threading.get_ident()), "work on the stream of another thread"
        assert not (waits and self._recording is not None), "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"

    @contextmanager
    def _owned(self) -> Iterator[None]:
        """Work of other threads would land in what this one is doing."""
        self._use()
        former, self._owner = self._owner, threading.get_ident()
        try:
            yield
        finally:
            self._owner = former

    def capability(self) -> tuple[int, int]:
        return self._capability

    def processors(self) -> int:
        return 2

    def name(self) -> str:
        return "a recorded GPU"

    def allocate(self, size: int) -> int:
        assert not self.closed, "CUDA_ERROR_CONTEXT_IS_DESTROYED"
        assert size > 0, "CUDA_ERROR_INVALID_VALUE"
        block = device_array(np.full(size, 0xFF, np.uint8))
        self.memory[block.ctypes.data] = block
        return block.ctypes.data

    def free(self, address: int) -> None:
        assert not self.closed, "CUDA_ERROR_CONTEXT_IS_DESTROYED"
        assert address in self.memory, "CUDA_ERROR_INVALID_VALUE: freed twice, or a part"
        del self.memory[address]

    def ordinal_of(self, address: int) -> int:
        """`ordinals` says which allocations are another GPU's."""
        self.span(address)
        return self.ordinals.get(address, self.ordinal)

    def span(self, address: int, size: int = 1) -> np.ndarray:
        """What lies from an address to the end of its allocation, at least `size` bytes."""
        for base, block in self.memory.items():
            if base <= address < base + block.nbytes:
                assert address + size <= base + block.nbytes, "CUDA_ERROR_INVALID_VALUE: too long"
                return block[address - base :]
        raise AssertionError(f"CUDA_ERROR_INVALID_VALUE: {address:#x} is in no allocation")

    def to_device(self, address: int, host: int, size: int) -> None:
        self._use(waits=True)
        ctypes.memmove(self.span(address, size).ctypes.data, host, size)

    def to_host(self, host: int, address: int, size: int) -> None:
        self._use(waits=True)
        ctypes.memmove(host, self.span(address, size).ctypes.data, size)

    def between(self, target: int, source: int, size: int) -> None:
        self._use()
        self.span(target, size)[:size] = self.span(source, size)[:size]

    def clear(self, address: int, size: int) -> None:
        self._use()
        self.span(address, size)[:size] = 0

    def load(self, cubin: bytes) -> bytes:
        assert not self.closed, "CUDA_ERROR_CONTEXT_IS_DESTROYED"
        self.loaded.append(cubin)
        return cubin

    def unload(self, module: bytes) -> None:
        assert module in self.loaded, "CUDA_ERROR_INVALID_HANDLE"
        self.loaded.remove(module)

    def function(self, module: bytes, name: str, shared_bytes: int) -> tuple[bytes, str]:
        assert module in self.loaded, "CUDA_ERROR_INVALID_HANDLE"
        assert shared_bytes <= MOST_SHARED[self._capability[0]], "CUDA_ERROR_INVALID_VALUE"
        self.calls.append(("function", name, shared_bytes))
        self._shared[module, name] = max(shared_bytes, DYNAMIC_SHARED_DEFAULT)
        return module, name

    def launch(
        self,
        function: tuple[bytes, str],
        grid: Sequence[int],
        threads: int,
        shared_bytes: int,
        arguments: Sequence[tuple[Any, Any]],
        what: str,
    ) -> None:
        self._use()
        assert function[0] in self.loaded, "CUDA_ERROR_INVALID_HANDLE"
        within = [0 < count <= most for count, most in zip(grid, MOST_BLOCKS, strict=True)]
        assert all(within), f"CUDA_ERROR_INVALID_VALUE: {grid} blocks"
        assert 0 < threads <= MOST_THREADS, f"CUDA_ERROR_INVALID_VALUE: {threads} threads"
        assert shared_bytes <= self._shared[function], "CUDA_ERROR_INVALID_VALUE: shared memory"
        call = function, tuple(grid), threads, shared_bytes, tuple(arguments), what
        if self._recording is not None:
            self._recording.append(call)
            return
        self.calls.append(("launch", function[1], self.stream, what))
        pointers = sorted({value for value, kind in arguments if kind is ctypes.c_void_p})
        following = dict(zip(pointers, [*pointers[1:], 1 << 64], strict=True))
        values = [
            self._mapped(value)
            if kind is None
            # Pieces of one allocation end where the next one begins.
            else self.span(value)[: following[value] - value]
            if kind is ctypes.c_void_p
            else kind(value).value
            for value, kind in arguments
        ]
        x, y, z = grid
        self.modules[function[0]].launch(
            function[1], (x, y, z), threads, shared_bytes, values, Mode()
        )

    def tensor_map(
        self,
        address: int,
        shape: tuple[int, int],
        element_bytes: int,
        box: tuple[int, int],
        swizzle: int,
    ) -> tuple[Any, ...]:
        rows, columns = box
        assert 0 < rows <= 256 >= columns > 0, f"CUDA_ERROR_INVALID_VALUE: a box of {box}"
        assert not swizzle or columns * element_bytes <= swizzle, "CUDA_ERROR_INVALID_VALUE"
        assert not address % 16, "CUDA_ERROR_INVALID_VALUE: a map that begins amid 16 bytes"
        for row_bytes in (columns * element_bytes, shape[1] * element_bytes):
            assert not row_bytes % 16, "CUDA_ERROR_INVALID_VALUE: rows of no multiple of 16 bytes"
        self.span(address, shape[0] * shape[1] * element_bytes)
        self.calls.append(("tensor_map", shape, element_bytes, box, swizzle))
        return address, shape, element_bytes, box, swizzle

    def _mapped(self, made: tuple[Any, ...]) -> bytes:
        address, (rows, columns), element_bytes, box, swizzle = made
        elements = self.span(address)[: rows * columns * element_bytes].view(f"u{element_bytes}")
        return tensor_map(elements.reshape(rows, columns), box, swizzle)

    @contextmanager
    def working_on(self, stream: int) -> Iterator[None]:
        with self._owned():
            former, self.stream = self.stream, stream
            try:
                yield
            finally:
                self.stream = former

    def mark(self) -> int:
        """`marks` says of which stream."""
        self._use()
        mark = max(self.marks, default=0) + 1
        self.marks[mark] = self.stream
        return mark

    def wait_for(self, mark: int) -> None:
        self._use()
        assert mark in self.marks, "CUDA_ERROR_INVALID_HANDLE"
        self.calls.append(("wait", self.stream, self.marks[mark]))

    def forget(self, mark: int) -> None:
        assert mark in self.marks, "CUDA_ERROR_INVALID_HANDLE"
        del self.marks[mark]

    def capture(self, work: Callable[[], None]) -> list[tuple[Any, ...]]:
        with self._owned():
            graph = self._recording = []
            try:
                work()
            finally:
                self._recording = None
        self.graphs.append(graph)
        return graph

    def replay(self, graph: list[tuple[Any, ...]]) -> None:
        self._use()
        assert any(graph is each for each in self.graphs), "CUDA_ERROR_INVALID_HANDLE"
        self.calls.append(("replay", len(graph)))
        for call in graph:
            self.launch(*call)

    def seconds(self, graph: list[tuple[Any, ...]]) -> float:
        """A microsecond for each block; the replay is waited for."""
        self._use(waits=True)
        self.replay(graph)
        return 1e-6 * sum(prod(grid) for _, grid, *_ in graph)

    def cache_bytes(self) -> int:
        return CACHE

    def drop(self, graph: list[tuple[Any, ...]]) -> None:
        assert any(graph is each for each in self.graphs), "CUDA_ERROR_INVALID_HANDLE"
        self.graphs.remove(graph)

    def synchronize(self) -> None:
        self._use(waits=True)

    def close(self) -> None:
        assert not self.closed, "CUDA_ERROR_INVALID_CONTEXT: released twice"
        self.closed = True

"""A driver that keeps memory in NumPy, runs kernels in the emulator, and records its calls."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from qcc.codegen.cuda.emulator.launch import EmulatedModule, Mode, device_array, tensor_map

OWN_STREAM = 1


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
        self.stream, self.closed = OWN_STREAM, False
        self._recording: list[tuple[Any, ...]] | None = None

    def capability(self) -> tuple[int, int]:
        return self._capability

    def name(self) -> str:
        return "a recorded GPU"

    def allocate(self, size: int) -> int:
        assert size > 0, "CUDA_ERROR_INVALID_VALUE"
        block = device_array(np.full(size, 0xFF, np.uint8))
        self.memory[block.ctypes.data] = block
        return block.ctypes.data

    def free(self, address: int) -> None:
        del self.memory[address]

    def span(self, address: int) -> np.ndarray:
        """What lies from an address to the end of its allocation."""
        for base, block in self.memory.items():
            if base <= address < base + max(block.nbytes, 1):
                return block[address - base :]
        raise AssertionError(f"{address:#x} is in no allocation")

    def to_device(self, address: int, host: int, size: int) -> None:
        ctypes.memmove(self.span(address)[:size].ctypes.data, host, size)

    def to_host(self, host: int, address: int, size: int) -> None:
        ctypes.memmove(host, self.span(address)[:size].ctypes.data, size)

    def between(self, target: int, source: int, size: int) -> None:
        self.span(target)[:size] = self.span(source)[:size]

    def clear(self, address: int, size: int) -> None:
        self.span(address)[:size] = 0

    def load(self, cubin: bytes) -> bytes:
        self.loaded.append(cubin)
        return cubin

    def unload(self, module: bytes) -> None:
        self.loaded.remove(module)

    def function(self, module: bytes, name: str, shared_bytes: int) -> tuple[bytes, str]:
        self.calls.append(("function", name, shared_bytes))
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
        self.calls.append(("tensor_map", shape, element_bytes, box, swizzle))
        return address, shape, element_bytes, box, swizzle

    def _mapped(self, made: tuple[Any, ...]) -> bytes:
        address, (rows, columns), element_bytes, box, swizzle = made
        elements = self.span(address)[: rows * columns * element_bytes].view(f"u{element_bytes}")
        return tensor_map(elements.reshape(rows, columns), box, swizzle)

    @contextmanager
    def working_on(self, stream: int) -> Iterator[None]:
        self.stream = stream
        yield
        self.stream = OWN_STREAM

    def capture(self, work: Callable[[], None]) -> list[tuple[Any, ...]]:
        self._recording = []
        work()
        graph, self._recording = self._recording, None
        self.graphs.append(graph)
        return graph

    def replay(self, graph: list[tuple[Any, ...]]) -> None:
        self.calls.append(("replay", len(graph)))
        for call in graph:
            self.launch(*call)

    def drop(self, graph: list[tuple[Any, ...]]) -> None:
        self.graphs.remove(graph)

    def synchronize(self) -> None: ...

    def close(self) -> None:
        self.closed = True

"""
Kernels of one layer on a GPU, timed without what stands around them.

A graph launches the tuned kernels many times over copies of their memory that together are larger
than the L2 cache: neither the host's calls nor a warm cache are timed, but for memory so small that
`MOST_COPIES` of it stay there. What rounds activations or converts results runs once before.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np

from ...codegen.cuda.driver_device import GpuDevice
from ...codegen.cuda.execution import Execution, Workspace
from ...codegen.cuda.plan import Function, LaunchStep
from ...codegen.cuda.program import CudaCode
from ..element_types import numpy_dtype
from .layer_data import LayerData

CACHES, MOST_COPIES = 4, 512
LEAST_LAUNCHES = 20


class Copy:
    """The program's memory, once: stored tensors, inputs, results and scratch."""

    def __init__(
        self, code: CudaCode, data: LayerData, device: GpuDevice, steps: tuple[str, ...]
    ) -> None:
        self._device, self._held = device, []
        self._workspace = Workspace(device)
        with ExitStack() as failed:
            failed.callback(self.close)
            self._take(code, data, steps)
            failed.pop_all()

    def _take(self, code: CudaCode, data: LayerData, steps: tuple[str, ...]) -> None:
        """All memory; `close` gives it back, also where some of it was not to be had."""
        device = self._device
        stored = {("tensor", name): self._uploaded(data.stored[name]) for name in code.plan.tensors}
        constants = code.constants.items()
        stored |= {("constant", name): self._uploaded(array) for name, array in constants}
        function = code.plan.functions["main"]
        self._whole = Execution(function, device, stored)
        self._tuned = Execution(_only(function, steps), device, stored)
        shapes = [array.shape for array in data.inputs]
        self._situation = self._whole.situation(shapes, {})
        self._inputs = [self._uploaded(array) for array in data.inputs]
        extents = self._whole.output_shapes(self._situation)
        dtypes = [numpy_dtype(output.element) for output in function.outputs]
        self._results = [np.empty(shape, d) for shape, d in zip(extents, dtypes, strict=True)]
        self._outputs = [self._allocated(each.nbytes) for each in self._results]
        self._arena = self._workspace.arena(self._situation.arena)
        self._counters = self._workspace.counters(self._whole.counter_bytes(self._situation))
        inputs = sum(array.nbytes for array in (*data.inputs, *self._results))
        self.bytes = inputs + sum(data.stored[name].nbytes for name in code.plan.tensors)

    def _uploaded(self, array: np.ndarray) -> int:
        memory = self._allocated(array.nbytes)
        self._device.upload(memory, array)
        return memory

    def _allocated(self, size: int) -> int:
        self._held.append(self._device.allocate(max(size, 1)))
        return self._held[-1]

    def run(self) -> None:
        """All of the program."""
        self._execute(self._whole)

    def launch(self) -> None:
        """The tuned kernels alone; after `run`."""
        self._execute(self._tuned)

    def _execute(self, execution: Execution) -> None:
        execution.run(self._situation, self._inputs, self._outputs, {}, self._arena, self._counters)

    @property
    def result(self) -> np.ndarray:
        self._device.download(self._outputs[0], self._results[0])
        return self._results[0]

    def close(self) -> None:
        self._workspace.close()
        for memory in self._held:
            self._device.free(memory)
        self._held.clear()


def _only(function: Function, steps: tuple[str, ...]) -> Function:
    """The launches of kernels whose names begin so."""
    kept = [s for s in function.steps if isinstance(s, LaunchStep) and s.kernel.startswith(steps)]
    return msgspec.structs.replace(function, steps=tuple(kept))


class Rotation:
    """As many copies as outgrow the cache, at least the one that was checked."""

    def __init__(self, first: Copy, another: Callable[[], Copy], device: GpuDevice) -> None:
        self._device = device
        wanted = -(-CACHES * device.driver.cache_bytes() // max(first.bytes, 1))
        self.copies = [first]
        with ExitStack() as failed:
            failed.callback(self._close_copies)
            while len(self.copies) < min(wanted, MOST_COPIES):
                self.copies.append(another())
                self.copies[-1].run()
            turns = -(-LEAST_LAUNCHES // len(self.copies))
            self._launches = turns * len(self.copies)

            def work() -> None:
                for _ in range(turns):
                    for copy in self.copies:
                        copy.launch()

            self._graph: Any = device.captured(work)
            failed.pop_all()

    def seconds(self) -> float:
        """Of the tuned kernels, once."""
        return self._device.seconds(self._graph) / self._launches

    def close(self) -> None:
        self._device.drop(self._graph)
        self._close_copies()

    def _close_copies(self) -> None:
        for copy in self.copies[1:]:
            copy.close()

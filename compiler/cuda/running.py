"""
Running a program for a GPU: on the emulator, or on the device itself.

    CudaRunning(code, tensor, device)      stored tensors are uploaded once, calls take turns
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...codegen.cuda.execution import Device, Execution, Memory, Situation, Workspace
from ...codegen.cuda.plan import CacheSpec, Function
from ...codegen.cuda.program import CudaCode
from ...dialects.errors import UsageError
from ..element_types import numpy_dtype
from ..running import Running
from .tensors import DeviceArray
from .workspaces import Workspaces

_FIRST_CAPACITY = 256


class CudaRunning(Running):
    """A launch plan with its tensors on a device."""

    def __init__(self, code: CudaCode, tensor: Callable[[str], np.ndarray], device: Device) -> None:
        self.code, self._device = code, device
        # Of all that is put on the device's stream: `working_on` and `captured` take it over.
        self._lock = threading.RLock()
        self._stored = {
            ("tensor", name): self._uploaded(tensor(name)) for name in code.plan.tensors
        }
        for name, array in code.constants.items():
            self._stored["constant", name] = self._uploaded(array)
        self._workspaces = Workspaces(device)
        self._executions = {
            name: Execution(function, device, self._stored)
            for name, function in code.plan.functions.items()
        }

    @property
    def steps(self) -> bool:
        return "step" in self.code.plan.functions

    def _uploaded(self, array: np.ndarray) -> Memory:
        memory = self._device.allocate(max(array.nbytes, 1))
        self._device.upload(memory, array)
        return memory

    def call(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self._run("main", inputs, None)

    def caches(self, batch: int) -> DeviceCaches:
        return DeviceCaches(self.code.plan.functions["step"], self._device, batch)

    def step(
        self, tokens: np.ndarray, caches: DeviceCaches, *, last_only: bool = False
    ) -> list[np.ndarray]:
        with self._lock:
            caches.reserve(caches.length + tokens.shape[1])
            past = np.array(caches.length, np.int64)
            results = self._run("step", [tokens, past], caches)
            caches.length += tokens.shape[1]
        return results

    def gpus(self, array: DeviceArray) -> tuple[int, int]:
        """The numbers of the GPU that the array lies on, and of the one of this program."""
        return self._device.gpus(array.address)

    def call_on_device(
        self,
        inputs: Sequence[DeviceArray],
        empty: Callable[[tuple[int, ...], np.dtype], DeviceArray],
        stream: int,
    ) -> None:
        """
        Put a call on `stream`, whose inputs lie on the device; `empty` makes its results there.

        Returns before the kernels are done, as torch does.
        """
        execution = self._executions["main"]
        shapes = [array.shape for array in inputs]
        with self._lock, self._device.working_on(stream):
            for producer in {array.stream for array in inputs if array.stream is not None}:
                self._wait_for(producer)
            situation = execution.situation(shapes, self._values(execution, inputs))
            results = [
                empty(shape, numpy_dtype(output.element))
                for output, shape in zip(
                    execution.function.outputs, execution.output_shapes(situation), strict=True
                )
            ]
            self._execute(
                execution,
                situation,
                [array.address for array in inputs],
                [result.address for result in results],
                {},
                stream,
            )

    def _wait_for(self, stream: int) -> None:
        """On the device, for what others have put on their stream."""
        with self._device.working_on(stream):
            mark = self._device.mark()
        try:
            self._device.wait_for(mark)
        finally:
            self._device.forget(mark)

    def _values(self, execution: Execution, inputs: Sequence[DeviceArray]) -> dict[int, int]:
        """The scalars that sizes depend on, read back from the device."""
        values: dict[int, int] = {}
        for index in execution.function.scalars():
            number = np.empty((), inputs[index].dtype)
            self._device.download(inputs[index].address, number)
            values[index] = int(number)
        return values

    def captured(self, inputs: Sequence[np.ndarray]) -> CapturedCall:
        """
        A call for inputs of these shapes and scalars, as a graph that is launched as a whole.

        It has memory of its own; the device is the one that this program is on.
        """
        with self._lock:
            return CapturedCall(self, inputs)

    def close(self) -> None:
        with self._lock:
            self._workspaces.close()
            for memory in self._stored.values():
                self._device.free(memory)
            self._stored.clear()

    def _run(
        self, name: str, inputs: Sequence[np.ndarray], caches: DeviceCaches | None
    ) -> list[np.ndarray]:
        execution = self._executions[name]
        held = [np.ascontiguousarray(array).reshape(array.shape) for array in inputs]
        values = {index: int(held[index]) for index in execution.function.scalars()}
        capacity = 0 if caches is None else caches.capacity
        with self._lock:
            situation = execution.situation([a.shape for a in held], values, capacity)
            return self._launched(execution, situation, held, caches)

    def _launched(
        self,
        execution: Execution,
        situation: Situation,
        inputs: Sequence[np.ndarray],
        caches: DeviceCaches | None,
    ) -> list[np.ndarray]:
        device, outputs = self._device, execution.function.outputs
        results = [
            np.empty(shape, numpy_dtype(output.element))
            for output, shape in zip(outputs, execution.output_shapes(situation), strict=True)
        ]
        sources = [self._uploaded(array) for array in inputs]
        targets = [device.allocate(max(result.nbytes, 1)) for result in results]
        try:
            memories = {} if caches is None else caches.memories
            self._execute(execution, situation, sources, targets, memories)
            for target, result in zip(targets, results, strict=True):
                device.download(target, result)
        finally:
            for memory in (*sources, *targets):
                device.free(memory)
        return results

    def _execute(
        self,
        execution: Execution,
        situation: Situation,
        inputs: Sequence[Memory],
        outputs: Sequence[Memory],
        caches: Mapping[str, Memory],
        stream: int | None = None,
    ) -> None:
        """`stream` is None for the device's own."""
        with self._workspaces.on(stream) as workspace:
            arena = workspace.arena(situation.arena)
            counters = workspace.counters(execution.counter_bytes(situation))
            execution.run(situation, inputs, outputs, caches, arena, counters)


class CapturedCall:
    """A call that was recorded once; `close` frees its graph and memory."""

    def __init__(self, running: CudaRunning, inputs: Sequence[np.ndarray]) -> None:
        """Whoever makes one holds the lock of `running`."""
        self._device, self._lock = running._device, running._lock
        execution = running._executions["main"]
        values = {index: int(inputs[index]) for index in execution.function.scalars()}
        self._shapes = [array.shape for array in inputs]
        situation = execution.situation(self._shapes, values)
        self._results = [
            np.empty(shape, numpy_dtype(output.element))
            for output, shape in zip(
                execution.function.outputs, execution.output_shapes(situation), strict=True
            )
        ]
        self._workspace = Workspace(self._device)
        arena = self._workspace.arena(situation.arena)
        counters = self._workspace.counters(execution.counter_bytes(situation))
        self._inputs = [running._uploaded(array) for array in inputs]
        self._outputs = [self._device.allocate(max(each.nbytes, 1)) for each in self._results]

        def work() -> None:
            execution.run(situation, self._inputs, self._outputs, {}, arena, counters)

        work()  # loads what is loaded at the first launch, which a recording may not
        self._graph = self._device.captured(work)

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The results for other values of inputs of the same shapes."""
        shapes = [array.shape for array in inputs]
        if shapes != self._shapes:
            raise UsageError(
                "captured-shapes",
                f"the call was recorded for inputs of {self._shapes}, not {shapes}",
                next_step="record another one for these shapes",
            )
        with self._lock:
            for memory, array in zip(self._inputs, inputs, strict=True):
                self._device.upload(memory, array)
            self._device.replay(self._graph)
            results = [np.empty_like(result) for result in self._results]
            for memory, result in zip(self._outputs, results, strict=True):
                self._device.download(memory, result)
        return results

    def close(self) -> None:
        with self._lock:
            self._device.drop(self._graph)
            self._workspace.close()
            for memory in (*self._inputs, *self._outputs):
                self._device.free(memory)
            self._inputs, self._outputs = [], []


class DeviceCaches:
    """
    The state of `length` positions of `batch` sequences on a device; grows by doubling.

    `memories` are by the names of the plan.
    """

    def __init__(self, function: Function, device: Device, batch: int) -> None:
        self.length = self.capacity = 0
        self.memories: dict[str, Memory] = {}
        self._function, self._device, self._batch = function, device, batch

    def reserve(self, positions: int) -> None:
        """Make room for that many positions in all, keeping what is there."""
        if positions <= self.capacity:
            return
        capacity = max(positions, 2 * self.capacity, _FIRST_CAPACITY)
        old, new = self._shapes(self.capacity), self._shapes(capacity)
        for spec in self._function.caches:
            size = int(np.prod(new[spec.name])) * numpy_dtype(spec.element).itemsize
            memory = self._device.allocate(size)
            self._device.clear(memory, size)
            if self.length:
                self._move(spec, memory, new[spec.name], old[spec.name])
            if spec.name in self.memories:
                self._device.free(self.memories[spec.name])
            self.memories[spec.name] = memory
        self.capacity = capacity

    def _shapes(self, capacity: int) -> dict[str, list[int]]:
        shapes = [(self._batch, 1), ()]
        values = dict.fromkeys(self._function.scalars(), 0)
        sizes = self._function.evaluated(shapes, values, capacity)
        return {
            spec.name: [sizes[extent] for extent in spec.extents] for spec in self._function.caches
        }

    def _move(self, spec: CacheSpec, target: Memory, new: list[int], old: list[int]) -> None:
        """What is held, row after row of the axes before the one that grows."""
        item = numpy_dtype(spec.element).itemsize
        wide, narrow = (int(np.prod(shape[spec.grows :])) * item for shape in (new, old))
        device, source = self._device, self.memories[spec.name]
        for row in range(int(np.prod(new[: spec.grows]))):
            device.copy(
                device.part(target, row * wide, narrow),
                device.part(source, row * narrow, narrow),
                narrow,
            )

    def close(self) -> None:
        for memory in self.memories.values():
            self._device.free(memory)
        self.memories.clear()
        self.capacity = self.length = 0

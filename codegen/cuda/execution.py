"""
Running a launch plan on a device: the emulator, or a GPU through its driver.

The plan says what; a `Device` knows how memory is held and kernels are started. Neither torch nor
MLIR is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .arena import aligned, arena_layout
from .limits import MOST_ELEMENTS, check_grid, too_many
from .plan import Argument, Box, Buffer, CopyStep, Function, LaunchStep

KEPT_LAYOUTS = 64
Memory = Any  # what a device calls a piece of its memory


class Device(Protocol):
    """Memory and launches. All of it happens in the order of the calls."""

    def allocate(self, size: int) -> Memory:
        """`size` bytes, aligned to 256."""
        ...

    def free(self, memory: Memory) -> None: ...

    def part(self, memory: Memory, offset: int, size: int) -> Memory:
        """Bytes of a piece of memory, without a copy."""
        ...

    def upload(self, memory: Memory, array: np.ndarray) -> None: ...

    def download(self, memory: Memory, array: np.ndarray) -> None: ...

    def clear(self, memory: Memory, size: int) -> None:
        """Zeros."""
        ...

    def copy(self, target: Memory, source: Memory, size: int) -> None: ...

    def fresh(self, memory: Memory, size: int) -> None:
        """What the memory held does not count any more."""
        ...

    def processors(self) -> int:
        """How many multiprocessors it has."""
        ...

    def gpus(self, memory: Memory) -> tuple[int, int]:
        """The numbers of the GPU that memory of others lies on, and of this one."""
        ...

    def working_on(self, stream: int) -> AbstractContextManager[None]:
        """Within it, work goes to another stream, by its handle."""
        ...

    def mark(self) -> Any:
        """A point in what the device works on; to be forgotten."""
        ...

    def wait_for(self, mark: Any) -> None:
        """What comes from here on begins when all before the mark is done."""
        ...

    def forget(self, mark: Any) -> None:
        """None is no mark."""
        ...

    def captured(self, work: Callable[[], None]) -> Any:
        """What `work` launches, to be replayed, and dropped at the end."""
        ...

    def replay(self, graph: Any) -> None: ...

    def drop(self, graph: Any) -> None: ...

    def launch(self, step: LaunchStep, grid: Sequence[int], arguments: Sequence[Any]) -> None:
        """`arguments` are memory, tensor maps, or (value, type) of numbers."""
        ...


@dataclass(frozen=True)
class TensorMap:
    """A tensor map: memory as rows by columns, and what a copy brings of it (plan.Box)."""

    memory: Memory
    rows: int
    box: Box


@dataclass(frozen=True)
class Situation:
    """What follows from the sizes of a call: all sizes, offsets in the arena, and its bytes."""

    sizes: list[int]
    offsets: dict[int, int]
    arena: int


class Execution:
    """
    One function of a program on a device.

    `stored` gives the memory of stored tensors and constants, by (place, name).
    """

    def __init__(
        self, function: Function, device: Device, stored: Mapping[tuple[str, str], Memory]
    ) -> None:
        self.function, self._device, self._stored = function, device, stored
        self._situations: OrderedDict[Any, Situation] = OrderedDict()

    def situation(
        self, shapes: Sequence[tuple[int, ...]], values: Mapping[int, int], capacity: int = 0
    ) -> Situation:
        """For inputs of these shapes and, of those that sizes depend on, these values."""
        key = tuple(shapes), tuple(sorted(values.items())), capacity
        if key not in self._situations:
            processors = self._device.processors()
            sizes = self.function.evaluated(shapes, values, capacity, processors)
            self._check_counts(sizes)
            self._situations[key] = Situation(sizes, *arena_layout(self.function, sizes))
            if len(self._situations) > KEPT_LAYOUTS:
                self._situations.popitem(last=False)
        return self._situations[key]

    def _check_counts(self, sizes: list[int]) -> None:
        """Raises UnsupportedError for sizes that make tensors or grids larger than can be."""
        most = max((sizes[count] for count in self.function.counts), default=0)
        if most > MOST_ELEMENTS:
            raise too_many(most, "with inputs of these sizes, a tensor")
        for step in self.function.steps:
            if isinstance(step, LaunchStep):
                check_grid(step.kernel, [sizes[size] for size in step.grid], step.layer)

    def output_shapes(self, situation: Situation) -> list[tuple[int, ...]]:
        sizes = situation.sizes
        return [
            tuple(sizes[extent] for extent in output.extents) for output in self.function.outputs
        ]

    def counter_bytes(self, situation: Situation) -> int:
        """Of the largest counters that a launch asks for."""
        return max(
            (
                situation.sizes[argument.index]
                for step in self.function.steps
                if isinstance(step, LaunchStep)
                for argument in step.arguments
                if argument.kind == "counters"
            ),
            default=0,
        )

    def run(
        self,
        situation: Situation,
        inputs: Sequence[Memory],
        outputs: Sequence[Memory],
        caches: Mapping[str, Memory],
        arena: Memory,
        counters: Memory,
    ) -> None:
        """All steps, in order. Arena and counters are at least as large as was asked for."""
        device, sizes = self._device, situation.sizes
        given = {"input": inputs, "output": outputs}

        def memory(number: int, buffer: Buffer) -> Memory:
            if buffer.place == "arena":
                return device.part(arena, situation.offsets[number], sizes[buffer.bytes])
            if buffer.place in given:
                return given[buffer.place][buffer.index]
            if buffer.place == "cache":
                return caches[buffer.name]
            return self._stored[buffer.place, buffer.name]

        places = [memory(number, each) for number, each in enumerate(self.function.buffers)]
        for step in self.function.steps:
            if step.condition is not None and not sizes[step.condition]:
                continue
            if isinstance(step, CopyStep):
                self._copy(step, places, sizes)
            else:
                self._launch(step, places, sizes, counters)

    def _copy(self, step: CopyStep, places: list[Memory], sizes: list[int]) -> None:
        size = sizes[self.function.buffers[step.target].bytes]
        if size:
            source = self._device.part(places[step.source], step.offset, size)
            self._device.copy(places[step.target], source, size)

    def _launch(
        self, step: LaunchStep, places: list[Memory], sizes: list[int], counters: Memory
    ) -> None:
        grid = [sizes[size] for size in step.grid]
        if 0 in grid:
            return
        buffers = self.function.buffers

        def pointer(argument: Argument) -> Memory:
            if not argument.offset:
                return places[argument.index]
            rest = sizes[buffers[argument.index].bytes] - argument.offset
            return self._device.part(places[argument.index], argument.offset, rest)

        def value(argument: Argument) -> Any:
            match argument.kind:
                case "pointer" if argument.box is not None:
                    return TensorMap(pointer(argument), sizes[argument.box.rows], argument.box)
                case "pointer":
                    return pointer(argument)
                case "counters":
                    return self._device.part(counters, 0, sizes[argument.index])
                case "number":
                    return sizes[argument.index], argument.type
            return argument.value, argument.type

        self._device.launch(step, grid, [value(argument) for argument in step.arguments])


class Workspace:
    """Memory that calls use in turn: the arena, and counters that are zeros between launches."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._arena: tuple[Memory, int] = (None, -1)
        self._counters: tuple[Memory, int] = (None, -1)

    def arena(self, size: int) -> Memory:
        self._arena = self._grown(self._arena, size, lambda memory, size: None)
        self._device.fresh(*self._arena)
        return self._arena[0]

    def counters(self, size: int) -> Memory:
        self._counters = self._grown(self._counters, size, self._device.clear)
        return self._counters[0]

    def close(self) -> None:
        for memory, size in (self._arena, self._counters):
            if size >= 0:
                self._device.free(memory)
        self._arena = self._counters = None, -1

    def _grown(
        self, held: tuple[Memory, int], size: int, prepare: Callable[[Memory, int], None]
    ) -> tuple[Memory, int]:
        memory, room = held
        if size <= room:
            return held
        if room >= 0:
            self._device.free(memory)
        room = aligned(max(size, 1))  # a driver allocates no 0 bytes
        memory = self._device.allocate(room)
        prepare(memory, room)
        return memory, room

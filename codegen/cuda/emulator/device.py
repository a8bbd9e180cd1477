"""The emulator as a device that launch plans run on: memory is NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ....dialects.errors import QccError
from ..execution import TensorMap
from ..plan import LaunchStep
from .launch import ALIGNMENT, EmulatedModule, Mode, tensor_map

POISON = 0xFF
PROCESSORS = 3
"""So few that persistent blocks have several tiles, also of small models."""


class EmulatedDevice:
    """
    Kernels of several emulated modules, by family.

    Fresh memory is filled with NaNs, as `mode` says in what order things happen and what is
    checked.
    """

    def __init__(self, modules: Mapping[str, EmulatedModule], mode: Mode) -> None:
        self._modules, self.mode = modules, mode

    def allocate(self, size: int) -> np.ndarray:
        raw = np.full(size + ALIGNMENT, POISON, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + size]

    def free(self, memory: np.ndarray) -> None:
        """NumPy does, with the last view."""

    def part(self, memory: np.ndarray, offset: int, size: int) -> np.ndarray:
        return memory[offset : offset + size]

    def upload(self, memory: np.ndarray, array: np.ndarray) -> None:
        memory[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def download(self, memory: np.ndarray, array: np.ndarray) -> None:
        array.reshape(-1).view(np.uint8)[:] = memory[: array.nbytes]

    def clear(self, memory: np.ndarray, size: int) -> None:
        memory[:size] = 0

    def copy(self, target: np.ndarray, source: np.ndarray, size: int) -> None:
        target[:size] = source[:size]

    def fresh(self, memory: np.ndarray, size: int) -> None:
        memory[:size] = POISON

    def processors(self) -> int:
        return PROCESSORS

    def gpus(self, memory: np.ndarray) -> tuple[int, int]:
        """It is none, and all memory is its own."""
        return 0, 0

    def working_on(self, stream: int) -> AbstractContextManager[None]:
        return nullcontext()

    def mark(self) -> None:
        """All is done when a call returns."""

    def wait_for(self, mark: None) -> None:
        """It was."""

    def forget(self, mark: None) -> None:
        """Nothing was made."""

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        return work

    def replay(self, graph: Callable[[], None]) -> None:
        graph()

    def drop(self, graph: Callable[[], None]) -> None:
        """Nothing was made."""

    def launch(self, step: LaunchStep, grid: Sequence[int], arguments: Sequence[Any]) -> None:
        """Raises KernelViolation where a kernel does what hardware leaves undefined."""
        x, y, z = grid
        values = [_value(each) for each in arguments]
        try:
            self._modules[step.family].launch(
                step.kernel, (x, y, z), step.threads, step.shared_bytes, values, self.mode
            )
        except QccError as error:
            if step.layer and "layer" not in error.where:
                error.where += f", layer {step.layer}"
            raise


def _value(argument: Any) -> Any:
    """As the emulator takes it: an array, a number, or the bytes of a tensor map."""
    if isinstance(argument, TensorMap):
        box = argument.box
        elements = argument.memory.view(f"u{box.element_bytes}")
        count = argument.rows * box.columns
        return tensor_map(elements[:count].reshape(argument.rows, -1), box.box, box.swizzle)
    return argument if isinstance(argument, np.ndarray) else argument[0]

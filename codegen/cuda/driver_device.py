"""
A GPU as a device that launch plans run on: cubins loaded once, memory by address.

Whatever it allocates and loads is freed by `close`, and at the latest with the device object.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ...dialects.errors import ResourceError, UnsupportedError
from .driver import C_TYPES, CudaBindings, Driver
from .execution import TensorMap
from .plan import LaunchStep
from .program import CudaCode


def open_gpu(code: CudaCode, driver: Driver | None = None) -> GpuDevice:
    """
    The first GPU, with the kernels of `code` loaded.

    Raises UnsupportedError for code without binaries, or for another GPU than there is, and
    ResourceError without a driver.
    """
    missing = [source.family for source in code.sources if source.family not in code.cubins]
    if missing:
        raise UnsupportedError(
            "cuda-no-binaries",
            f"the artifact has no cubins for {code.plan.target}",
            where=f"kernels/cuda/{missing[0]}.cu",
            why="it was compiled without a CUDA compiler: only sources are there",
            next_step="pip install 'qcc[cuda]' and compile again, or use --target cuda:emulate",
        )
    device = GpuDevice(driver or CudaBindings())
    try:
        _check_machine(device.driver, code.plan.target)
        device.load(code.cubins)
    except BaseException:
        device.close()
        raise
    return device


def _check_machine(driver: Driver, target: str) -> None:
    """sm_80 also runs on 8.6 and 8.9; names with a suffix run on nothing else."""
    major, minor = driver.capability()
    number = target.removeprefix("sm_")
    wanted = int(number.rstrip("af"))
    exact = not number.isdigit()
    found = 10 * major + minor
    if found == wanted or (not exact and wanted // 10 == major and wanted <= found):
        return
    raise UnsupportedError(
        "cuda-machine",
        f"the artifact is for {target}, the GPU here is sm_{found} ({driver.name()})",
        why="cubins run on the machine that they are made for",
        next_step=f"compile it with --target cuda:sm_{found}{'a' if found >= 90 else ''}, or for "
        "cuda:emulate",
    )


class GpuDevice:
    """Memory is an address; launches go to one stream, in order."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._modules: dict[str, Any] = {}
        self._functions: dict[tuple[str, int], Any] = {}
        self._held: set[int] = set()
        self.close = weakref.finalize(self, _close, driver, self._modules, self._held)

    def load(self, cubins: Mapping[str, bytes]) -> None:
        """Let the kernels of these families be launched."""
        for family, cubin in cubins.items():
            self._modules[family] = self.driver.load(cubin)

    def allocate(self, size: int) -> int:
        address = self.driver.allocate(size)
        self._held.add(address)
        return address

    def free(self, memory: int) -> None:
        self._held.discard(memory)
        self.driver.free(memory)

    def part(self, memory: int, offset: int, size: int) -> int:
        return memory + offset

    def upload(self, memory: int, array: np.ndarray) -> None:
        held = np.ascontiguousarray(array)
        if held.nbytes:
            self.driver.to_device(memory, held.ctypes.data, held.nbytes)

    def download(self, memory: int, array: np.ndarray) -> None:
        if array.nbytes:
            self.driver.to_host(array.ctypes.data, memory, array.nbytes)

    def clear(self, memory: int, size: int) -> None:
        if size:
            self.driver.clear(memory, size)

    def copy(self, target: int, source: int, size: int) -> None:
        self.driver.between(target, source, size)

    def launch(self, step: LaunchStep, grid: Sequence[int], arguments: Sequence[Any]) -> None:
        """Raises ResourceError that names kernel, layer and grid where the driver refuses."""
        layer = f" of layer {step.layer}" if step.layer else ""
        blocks = "x".join(map(str, grid))
        what = f"kernel {step.kernel}{layer} on {blocks} blocks of {step.threads} threads"
        packed = [self._packed(each) for each in arguments]
        self.driver.launch(
            self._function(step), grid, step.threads, step.shared_bytes, packed, what
        )

    def _packed(self, argument: Any) -> tuple[Any, Any]:
        if isinstance(argument, TensorMap):
            box, shape = argument.box, (argument.rows, argument.box.columns)
            made = self.driver.tensor_map(
                argument.memory, shape, box.element_bytes, box.box, box.swizzle
            )
            return made, None
        if isinstance(argument, tuple):
            return argument[0], C_TYPES[argument[1]]
        return argument, ctypes.c_void_p

    def _function(self, step: LaunchStep) -> Any:
        key = step.kernel, step.shared_bytes
        if key not in self._functions:
            if step.family not in self._modules:
                raise ResourceError("cuda-driver", f"no cubin has the kernel {step.kernel}")
            self._functions[key] = self.driver.function(
                self._modules[step.family], step.kernel, step.shared_bytes
            )
        return self._functions[key]

    def fresh(self, memory: int, size: int) -> None:
        """Device memory keeps what it held."""

    def processors(self) -> int:
        return self.driver.processors()

    def gpus(self, memory: int) -> tuple[int, int]:
        return self.driver.ordinal_of(memory), self.driver.ordinal

    def working_on(self, stream: int) -> AbstractContextManager[None]:
        return self.driver.working_on(stream)

    def mark(self) -> Any:
        return self.driver.mark()

    def wait_for(self, mark: Any) -> None:
        self.driver.wait_for(mark)

    def forget(self, mark: Any) -> None:
        if mark is not None:
            self.driver.forget(mark)

    def captured(self, work: Callable[[], None]) -> Any:
        return self.driver.capture(work)

    def replay(self, graph: Any) -> None:
        self.driver.replay(graph)

    def seconds(self, graph: Any) -> float:
        """That the device takes to replay it; waits."""
        return self.driver.seconds(graph)

    def drop(self, graph: Any) -> None:
        self.driver.drop(graph)


def _close(driver: Driver, modules: dict[str, Any], held: set[int]) -> None:
    for address in sorted(held):
        driver.free(address)
    for module in modules.values():
        driver.unload(module)
    held.clear()
    modules.clear()
    driver.close()

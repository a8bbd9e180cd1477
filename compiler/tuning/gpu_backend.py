"""
Kernels timed on the GPU itself: built in the pool, checked whole against the reference, then timed.

A kernel that reads or writes where it may not ends the context of its process: what was being
tried is recorded, and the process replaced (DeviceLost).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np

from ...autotune.measure.backend import DeviceLost, Run, Values
from ...autotune.task import Task
from ...codegen.cuda.driver import CudaBindings, Driver
from ...codegen.cuda.driver_device import GpuDevice, open_gpu
from ...codegen.cuda.plan import Plan
from ...codegen.cuda.program import CudaCode
from ...dialects.errors import ResourceError, UnsupportedError
from ..targets import require_target
from .cuda_backend import built_code, counted, tuned_resources
from .cuda_families import FAMILIES
from .gpu_timing import Copy, Rotation
from .layer_data import LayerData

Connect = Callable[[CudaCode | None], Driver]


class _Array(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]
    data: bytes


class _Built(msgspec.Struct, frozen=True):
    """What a device needs of code: no sources."""

    plan: Plan
    cubins: dict[str, bytes]
    constants: dict[str, _Array]
    resources: dict[str, int] = {}


def packed(code: CudaCode, resources: dict[str, int]) -> bytes:
    constants = {
        name: _Array(array.dtype.str, list(array.shape), array.tobytes())
        for name, array in code.constants.items()
    }
    return msgspec.msgpack.encode(_Built(code.plan, code.cubins, constants, resources))


def unpacked(data: bytes) -> tuple[CudaCode, dict[str, int]]:
    built = msgspec.msgpack.decode(data, type=_Built)
    constants = {
        name: np.frombuffer(each.data, each.dtype).reshape(each.shape)
        for name, each in built.constants.items()
    }
    return CudaCode(built.plan, (), constants, built.cubins), built.resources


def first_gpu(code: CudaCode | None) -> Driver:
    return CudaBindings()


class GpuBackend:
    """
    `target` and `operands` as `qcc compile` takes them; `gpu` is the product that the tasks name.
    `connect` opens the driver for code, or for none to keep the context alive between candidates.
    """

    modelled = False

    def __init__(
        self, target: str, operands: str, gpu: str = "", connect: Connect = first_gpu
    ) -> None:
        self._target, self._operands, self._connect = require_target(target), operands, connect
        self._kept: Driver | None = None
        self._data: LayerData | None = None

    def prepare(self, task: Task) -> None:
        self._kept = self._kept or self._connect(None)
        layer = FAMILIES[task.kernel].layer(task)
        self._data = layer.data(self._target, self._operands)

    def build(self, task: Task, values: Values) -> bytes:
        code, _, _ = built_code(task, values, self._target, self._operands)
        if not code.cubins:
            raise UnsupportedError(
                "cuda-no-compiler",
                "kernels cannot be built for the GPU",
                why="no CUDA compiler was found",
                next_step="pip install 'qcc[cuda]', or put nvcc on PATH",
            )
        told = tuned_resources(code, FAMILIES[task.kernel], self._target)
        return packed(code, counted(told))

    def load(self, task: Task, built: bytes) -> GpuKernel:
        code, resources = unpacked(built)
        assert self._data is not None
        device = open_gpu(code, self._connect(code))
        return GpuKernel(code, self._data, device, FAMILIES[task.kernel].steps, resources)


class GpuKernel:
    def __init__(
        self,
        code: CudaCode,
        data: LayerData,
        device: GpuDevice,
        steps: tuple[str, ...],
        resources: dict[str, int],
    ) -> None:
        self.resources = resources
        self._code, self._data, self._device, self._steps = code, data, device, steps
        self._first: Copy | None = None
        self._rotation: Rotation | None = None

    def check(self) -> str:
        """Every result of the whole layer."""
        return self._guarded(self._checked)

    def _checked(self) -> str:
        self._first = self._copy()
        self._first.run()
        return self._data.wrong(self._first.result)

    def run(self) -> Run:
        return Run(self._guarded(self._timed))

    def _timed(self) -> float:
        if self._rotation is None:
            self._rotation = Rotation(self._first or self._copy(), self._copy, self._device)
        return self._rotation.seconds()

    def _copy(self) -> Copy:
        return Copy(self._code, self._data, self._device, self._steps)

    def _guarded(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except ResourceError as error:
            try:
                self._device.driver.synchronize()
            except ResourceError:
                raise DeviceLost(f"{error.what}: {error.why}") from error
            raise

    def close(self) -> None:
        """Nothing can be freed on a device that is lost; its process ends."""
        with suppress(ResourceError):
            if self._rotation is not None:
                self._rotation.close()
            if self._first is not None:
                self._first.close()
            self._device.close()

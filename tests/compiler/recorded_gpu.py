"""
A GPU backend whose driver is the recorded one: cubins are sources, which the emulator runs.

    BackendName("tests.compiler.recorded_gpu:backend", {…})     in workers, as tuners name it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.codegen.cuda.program import CudaCode
from qcc.compiler.cache_folder import cache_folder
from qcc.compiler.tuning import cuda_backend
from qcc.compiler.tuning.gpu_backend import GpuBackend
from qcc.dialects.errors import ResourceError
from tests.compiler.recorded_driver import RecordedDriver

NAME = "tests.compiler.recorded_gpu:backend"


class LosingDriver(RecordedDriver):
    """Launches with `fatal` threads end the context: nothing works in this process any more."""

    fatal = 0
    lost = False

    def _use(self, *, waits: bool = False) -> None:
        if LosingDriver.lost:
            raise ResourceError(
                "cuda-driver", "the CUDA driver refuses", why="CUDA_ERROR_ILLEGAL_ADDRESS"
            )
        super()._use(waits=waits)

    def launch(
        self,
        function: tuple[bytes, str],
        grid: Sequence[int],
        threads: int,
        shared_bytes: int,
        arguments: Sequence[tuple[Any, Any]],
        what: str,
    ) -> None:
        LosingDriver.lost |= threads == self.fatal
        super().launch(function, grid, threads, shared_bytes, arguments, what)


def sources_as_cubins(code: CudaCode) -> CudaCode:
    return replace(code, cubins={source.family: source.text.encode() for source in code.sources})


def connect(code: CudaCode | None) -> Any:
    cubins = {} if code is None else code.cubins
    folder = cache_folder("emulated")
    modules = {text: build_emulated(text.decode(), folder, name) for name, text in cubins.items()}
    return LosingDriver(modules)


def backend(target: str, operands: str, gpu: str = "", fatal: int = 0) -> GpuBackend:
    LosingDriver.fatal = fatal
    cuda_backend.with_binaries = sources_as_cubins
    return GpuBackend(target, operands, gpu, connect)

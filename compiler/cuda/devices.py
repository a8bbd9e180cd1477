"""The device that CUDA code runs on: the emulator of this process, or a GPU."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from ...codegen.cuda.emulator.build import build_emulated
from ...codegen.cuda.emulator.device import EmulatedDevice
from ...codegen.cuda.emulator.launch import Mode
from ...codegen.cuda.execution import Device
from ...codegen.cuda.program import CudaCode
from ..cache_folder import cache_folder
from ..running import default_threads
from ..targets import Target


def open_device(code: CudaCode, target: Target, threads: int | None = None) -> Device:
    """Raises ResourceError where there is no GPU, or no C++ compiler for the emulator."""
    if target.emulated:
        return emulated_device(code, threads)
    from ...codegen.cuda.driver_device import open_gpu

    return open_gpu(code)


def emulated_device(code: CudaCode, threads: int | None = None) -> EmulatedDevice:
    """The kernels compiled for this processor, found again where they were before."""
    folder, workers = cache_folder("emulated"), threads or default_threads()
    with ThreadPoolExecutor(min(workers, os.cpu_count() or 1)) as pool:
        modules = pool.map(
            lambda source: (source.family, build_emulated(source.text, folder, source.family)),
            code.sources,
        )
        return EmulatedDevice(dict(modules), Mode(workers=workers))

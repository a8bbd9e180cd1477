"""IREE: the fp32 layer compiled from linalg for this processor, weights given as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import metadata
from typing import Any

import iree.compiler as compiler  # pyright: ignore[reportMissingImports]
import iree.runtime as runtime  # pyright: ignore[reportMissingImports]
import llvmlite.binding as llvm
import numpy as np
from iree.runtime import flags  # pyright: ignore[reportMissingImports]

from benchmarks.peers.peer import Copies, Packed, Plain, Step, Variant

PROGRAM = """
func.func @linear(%x: tensor<{m}x{k}xf32>, %w: tensor<{n}x{k}xf32>) -> tensor<{m}x{n}xf32> {{
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<{m}x{n}xf32>
  %start = linalg.fill ins(%zero : f32) outs(%empty : tensor<{m}x{n}xf32>) -> tensor<{m}x{n}xf32>
  %y = linalg.matmul
    indexing_maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>,
                     affine_map<(m, n, k) -> (m, n)>]
    ins(%x, %w : tensor<{m}x{k}xf32>, tensor<{n}x{k}xf32>)
    outs(%start : tensor<{m}x{n}xf32>) -> tensor<{m}x{n}xf32>
  return %y : tensor<{m}x{n}xf32>
}}
"""


class Iree:
    version = metadata.version("iree-base-compiler")

    def variants(self) -> Sequence[Variant]:
        return [Variant("fp32", 32)]

    def linear(self, variant: Variant, weight: np.ndarray, copies: Copies) -> Packed:
        return IreeLinear(weight, copies), weight


class IreeLinear(Plain):
    def __init__(self, weight: np.ndarray, copies: Copies) -> None:
        self.weight_bytes = weight.nbytes
        self._weight = weight
        self.copies = copies.of(weight.nbytes)
        self._placed: tuple[int, list[Any]] = (0, [])

    def ready(self, threads: int, x: np.ndarray) -> Step:
        n, k = self._weight.shape
        binary = compiler.compile_str(
            PROGRAM.format(m=len(x), n=n, k=k),
            target_backends=["llvm-cpu"],
            extra_args=[
                f"--iree-llvmcpu-target-cpu={llvm.get_host_cpu_name()}",
                "--iree-opt-level=O3",
            ],
        )
        device = _device(threads)
        config = runtime.Config(device=device)
        module = runtime.VmModule.copy_buffer(config.vm_instance, binary)
        function = runtime.load_vm_module(module, config).linear
        given = runtime.asdevicearray(device, x)
        if self._placed[0] != threads:
            weights = [runtime.asdevicearray(device, self._weight) for _ in range(self.copies)]
            self._placed = threads, weights
        weights = self._placed[1]
        return lambda copy: function(given, weights[copy % len(weights)])

    def as_array(self, result: object) -> np.ndarray:
        return result.to_host()  # pyright: ignore[reportAttributeAccessIssue]


@cache
def _device(threads: int) -> Any:
    """
    One for each number of threads, kept to the end.

    The number of workers is a flag of the process, read when a driver is made.
    """
    flags.parse_flags(f"--task_topology_group_count={threads}")
    runtime._binding.clear_hal_driver_cache()
    return runtime._binding.create_hal_driver("local-task").create_default_device()

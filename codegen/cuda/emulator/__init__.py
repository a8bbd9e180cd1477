"""The emitted CUDA on a CPU, with checks that hardware does not make."""

from .build import build_emulated
from .launch import ALL_MODES, EmulatedModule, KernelViolation, Mode, device_array, tensor_map

__all__ = [
    "ALL_MODES",
    "EmulatedModule",
    "KernelViolation",
    "Mode",
    "build_emulated",
    "device_array",
    "tensor_map",
]

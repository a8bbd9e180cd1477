"""The emitted CUDA on a CPU, with checks that hardware does not make."""

from .build import build_emulated
from .launch import EmulatedModule, KernelViolation, Mode

__all__ = ["EmulatedModule", "KernelViolation", "Mode", "build_emulated"]

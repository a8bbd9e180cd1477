"""DPU programs as processes of this machine: what they compute, without an RV32 compiler."""

from .process import NativeDpu

__all__ = ["NativeDpu"]

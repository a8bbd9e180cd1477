"""DPU programs built for RV32I, executed with the memories and checks of a DPU."""

from .machine import Dpu, load_interpreter

__all__ = ["Dpu", "load_interpreter"]

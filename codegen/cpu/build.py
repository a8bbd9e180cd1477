"""LLVM dialect → a relocatable object file for the host, through MLIR's execution engine."""

from __future__ import annotations

import os

from ...dialects.bindings import ExecutionEngine, ir

# Level 3 takes twice the time on the main function and gives the same kernels.
OPTIMIZATION_LEVEL = 2
LOOKED_UP = "qcc_set_parameters"
"""A public function: what the engine finds by an alias, it has not compiled."""


def build_object(module: ir.Module) -> bytes:
    """
    The ELF object of a module in the LLVM dialect, for the CPU that runs this.

    The engine writes objects to a file only, so one in memory carries the bytes: nothing is left
    behind however this process ends.
    """
    engine = ExecutionEngine(module, opt_level=OPTIMIZATION_LEVEL)
    with open(os.memfd_create("kernels.o"), "rb") as file:
        # Objects exist only once something was looked up, and so compiled.
        engine.raw_lookup(LOOKED_UP)
        engine.dump_to_object_file(f"/proc/self/fd/{file.fileno()}")
        return file.read()

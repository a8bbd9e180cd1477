"""LLVM dialect → a relocatable object file for the host, through MLIR's execution engine."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ...dialects.bindings import ExecutionEngine, ir

# Level 3 takes twice the time on the main function and gives the same kernels.
OPTIMIZATION_LEVEL = 2


def build_object(module: ir.Module) -> bytes:
    """
    The ELF object of a module in the LLVM dialect, for the CPU that runs this.

    The engine writes objects to a file only, so one in a private folder carries the bytes.
    """
    engine = ExecutionEngine(module, opt_level=OPTIMIZATION_LEVEL)
    with tempfile.TemporaryDirectory(prefix="qcc-") as folder:
        path = Path(folder) / "kernels.o"
        # Objects exist only once something was looked up, and so compiled.
        engine.raw_lookup("qcc_set_parameters")
        engine.dump_to_object_file(str(path))
        return path.read_bytes()

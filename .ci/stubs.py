"""
Type stubs of the MLIR bindings, which the torch-mlir wheel lacks, into the installed package.

nanobind writes them, but drops the type variable that `ir.Value` and its kin are generic in.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch_mlir

LIBRARIES = Path(torch_mlir.__path__[0]) / "_mlir_libs"
STUB = LIBRARIES / "_mlir" / "ir.pyi"
FIRST = "import enum\n"
VARIABLE = """
from typing import Any
from typing_extensions import TypeVar

_T = TypeVar("_T", default=Any)
"""


def main() -> None:
    stubgen = [sys.executable, "-m", "nanobind.stubgen", "-q", "-r"]
    subprocess.run([*stubgen, "-m", "torch_mlir._mlir_libs._mlir", "-O", LIBRARIES], check=True)
    text = STUB.read_text()
    if "_T = TypeVar(" not in text:
        STUB.write_text(text.replace(FIRST, FIRST + VARIABLE, 1))


if __name__ == "__main__":
    main()

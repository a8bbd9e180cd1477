"""DPU programs of the tests: built once a session, for both emulators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qcc.codegen.upmem.build_dpu import build_rv32
from qcc.codegen.upmem.dpu_program import DpuProgram
from qcc.codegen.upmem.native import NativeDpu
from qcc.codegen.upmem.rv32 import Dpu
from qcc.codegen.upmem.toolchain import candidates

AnyDpu = Dpu | NativeDpu
Make = Callable[[str, DpuProgram], AnyDpu]

needs_clang = pytest.mark.skipif(
    not candidates(), reason="needs a clang for RV32: pip install 'qcc[pim-emu]'"
)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where programs and emulators are kept for the session."""
    return tmp_path_factory.getbasetemp() / "upmem"


@pytest.fixture(params=[pytest.param("rv32", marks=needs_clang), "native"])
def rung(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(built: Path) -> Make:
    """make(rung, program): a DPU of that kind with the program."""

    def dpu(rung: str, program: DpuProgram) -> AnyDpu:
        if rung == "native":
            return NativeDpu(program, built)
        return Dpu(program, build_rv32(program, built), built)

    return dpu


@pytest.fixture
def needs_rv32() -> None:
    if not candidates():
        pytest.skip("needs a clang for RV32: pip install 'qcc[pim-emu]'")

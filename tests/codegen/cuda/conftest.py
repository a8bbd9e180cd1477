"""The .cu files of this folder, built for the emulator once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from qcc.codegen.cuda.emulator import EmulatedModule, build_emulated

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], EmulatedModule]:
    """emulated("gemm"): the kernels of gemm.cu."""
    folder = tmp_path_factory.mktemp("emulated")

    @cache
    def module(name: str) -> EmulatedModule:
        return build_emulated((HERE / f"{name}.cu").read_text(), folder, name)

    return module

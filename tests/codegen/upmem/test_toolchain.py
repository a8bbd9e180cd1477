"""Which compilers are found, what is said without them, and a user's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qcc.codegen.upmem import toolchain
from qcc.codegen.upmem.build_dpu import build_vendor
from qcc.codegen.upmem.dpu_program import DpuProgram
from qcc.dialects.errors import QccError, ResourceError

PROGRAM = DpuProgram("small", "#include <qcc_dpu.h>\nint main(void) { return 0; }\n", 3)
VENDOR = f"""#!{sys.executable}
import pathlib, sys
arguments = sys.argv[1:]
source = pathlib.Path(arguments[-1])
if "refuse" in source.read_text():
    sys.exit("small.c:1: error: refused")
assert (source.parent / "qcc_dpu.h").exists() and not (source.parent / "mram.h").exists()
target = arguments[arguments.index("-o") + 1]
pathlib.Path(target).write_text(" ".join(each for each in arguments if each.startswith("-D")))
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it but what the test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_without_clang_the_next_step_is_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "candidates", lambda: ())
    with pytest.raises(ResourceError, match="no clang for RV32") as caught:
        toolchain.find_clang()
    assert "qcc[pim-emu]" in caught.value.next_step


def test_a_clang_that_cannot_compile_for_rv32_is_passed_over(path: Path) -> None:
    for name in ("clang", "ld.lld"):
        (path / name).write_text("#!/bin/sh\necho 'clang version 3.0'; test \"$1\" = --version\n")
        (path / name).chmod(0o755)
    assert all(found.compiler[0] != str(path / "clang") for found in toolchain._candidates())


def test_without_gcc_the_emulators_say_so(path: Path) -> None:
    with pytest.raises(ResourceError, match="no C compiler"):
        toolchain.host_compiler()


def test_without_the_vendors_compiler_there_is_no_program(path: Path, tmp_path: Path) -> None:
    assert build_vendor(PROGRAM, tmp_path) is None


def test_the_vendors_compiler_is_used_when_found(path: Path, tmp_path: Path) -> None:
    compiler = path / toolchain.VENDOR
    compiler.write_text(VENDOR)
    compiler.chmod(0o755)
    built = build_vendor(PROGRAM, tmp_path / "built")
    assert built is not None
    assert built.read_text() == "-DNR_TASKLETS=3 -DSTACK_SIZE_DEFAULT=1024"
    refused = DpuProgram("small", "refuse", 3)
    with pytest.raises(QccError, match="does not compile") as caught:
        build_vendor(refused, tmp_path / "built")
    assert "refused" in caught.value.why

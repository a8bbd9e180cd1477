"""Programs of the native emulator are built once, also by several at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qcc.codegen.upmem.dpu_program import DpuProgram
from qcc.codegen.upmem.native.process import build_native

SOURCE = "#include <qcc_dpu.h>\nint main(void) { return 0; }\n"


def test_a_source_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """Another emulator's compiler may be reading it."""
    program = DpuProgram("nothing", SOURCE, 1)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: build_native(program, tmp_path), range(2))
    assert first == second
    (text,) = tmp_path.glob("*.c")
    before = text.stat()
    assert build_native(program, tmp_path) == first
    after = text.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not list(tmp_path.glob("tmp*")), "nothing half-made stays"

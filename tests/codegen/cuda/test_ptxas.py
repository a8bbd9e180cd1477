"""
What ptxas rejects is what the table of instructions says that a machine rejects.

What it takes proves nothing (it replaces what silicon lacks): test_sass.py reads the SASS of that.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qcc.codegen.cuda.compilers import Nvcc, find_compiler
from qcc.dialects.tile.hardware import MACHINES, Support, support

BLOCK_SCALED = "{f, f, f, f}, {r, r, r, r}, {r, r}, {f, f, f, f}, {r}, {z, z}, {r}, {z, z};"
PLAIN = "{f, f, f, f}, {r, r, r, r}, {r, r}, {f, f, f, f};"
INSTRUCTIONS = {
    "mma.m16n8k16.f16": f"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {PLAIN}",
    "mma.m16n8k32.e4m3": f"mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {PLAIN}",
    "mma.m16n8k32.mxf8": "mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale"
    f".scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0 {BLOCK_SCALED}",
    "mma.m16n8k64.mxf4": "mma.sync.aligned.m16n8k64.row.col.kind::mxf4.block_scale"
    f".scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0 {BLOCK_SCALED}",
    "mma.m16n8k64.nvf4": "mma.sync.aligned.m16n8k64.row.col.kind::mxf4nvf4.block_scale"
    f".scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3 {BLOCK_SCALED}",
    "setmaxnreg": "setmaxnreg.dec.sync.aligned.u32 24;",
    "mbarrier.try_wait": "mbarrier.try_wait.parity.shared::cta.b64 p, [r], 0;",
}
KERNEL = """.version 8.8
.target TARGET
.address_size 64
.visible .entry kernel() {
  .reg .f32 f;
  .reg .b32 r;
  .reg .b16 z;
  .reg .pred p;
  mov.b32 r, 0;
  mov.b16 z, 0;
  mov.f32 f, 0f00000000;
  INSTRUCTION
  ret;
}
"""


@pytest.fixture(scope="module")
def ptxas() -> Path:
    compiler = find_compiler()
    assert isinstance(compiler, Nvcc)
    return Path(compiler.program).parent / "ptxas"


def assembles(ptxas: Path, target: str, instruction: str, folder: Path) -> bool:
    text = KERNEL.replace("TARGET", target).replace("INSTRUCTION", instruction)
    source = folder / "kernel.ptx"
    source.write_text(text)
    command = [str(ptxas), f"-arch={target}", str(source), "-o", str(folder / "kernel.cubin")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_rejected_is_what_the_table_says(ptxas: Path, name: str, tmp_path: Path) -> None:
    taken = {t for t in MACHINES if assembles(ptxas, t, INSTRUCTIONS[name], tmp_path)}
    assert taken == {t for t in MACHINES if support(t, name) is not Support.REJECTED}

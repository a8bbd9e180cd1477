"""
The same text for real machines: the SASS has the instructions of the table, once each.

Needs nvcc or NVRTC and nvdisasm, which the `cuda` extra installs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from qcc.codegen.cuda.compilers import Compiler, find_compiler, nvrtc_libraries
from qcc.codegen.cuda.resources import CALL, Resources, resources
from qcc.codegen.cuda.toolchain import Job, build_all
from qcc.dialects.tile.hardware import CAPABILITIES, Support, is_native, support

HERE = Path(__file__).parent
TARGETS = ("sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a")
GEMM_TARGETS = ("sm_80", "sm_90a", "sm_120a")
OTHERS = {
    "ldmatrix.b16": "move_matrices",
    "dp4a": "apply_dot_s8",
    "lop3": "apply_lop3_ea",
    "prmt": "apply_permute_bytes",
    "fma.f16x2": "apply_fma_f16x2",
    "fma.bf16x2": "apply_fma_bf16x2",
    "cvt.e4m3x2": "apply_e4m3x2_from_f32",
    "cvt.e2m1x2": "apply_e2m1x2_from_f32",
    "red.global.f16x2": "add_pairs",
    "bar.sync": "take_turns",
}


def build_file(name: str, targets: tuple[str, ...], folder: Path, compiler: Compiler):
    """By machine: the kernels of name.cu with what they cost."""
    text = (HERE / f"{name}.cu").read_text()
    cubins = build_all([Job(name, text, target) for target in targets], folder, compiler=compiler)
    return {cubin.target: resources(cubin) for cubin in cubins}


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Resources]]:
    """By NVRTC, which takes half the time, where a wheel brought it."""
    compiler = next(nvrtc_libraries(), None) or find_compiler()
    return build_file("functions", TARGETS, tmp_path_factory.mktemp("cubins"), compiler)


@pytest.fixture(scope="module")
def gemm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Resources]]:
    return build_file("gemm", GEMM_TARGETS, tmp_path_factory.mktemp("cubins"), find_compiler())


@pytest.mark.parametrize("target", TARGETS)
def test_matrix_instructions_are_what_the_table_says(functions, target):
    """Native: that opcode, once. Emulated: not that opcode. Rejected: such kernels are left out."""
    kernels = functions[target]
    checked = 0
    for name, capability in CAPABILITIES.items():
        kernel = kernels.get("multiply_" + name.removeprefix("mma.").replace(".", "_"))
        if kernel is None:
            continue
        native = is_native(target, name)
        assert support(target, name) is not Support.REJECTED, name
        assert kernel.count(*capability.opcodes) == native, (name, kernel.opcodes)
        assert not (native and kernel.count(CALL)), name
        checked += 1
    assert checked >= 15


@pytest.mark.parametrize("target", TARGETS)
def test_other_instructions_are_what_the_table_says(functions, target):
    kernels = functions[target]
    for name, kernel in OTHERS.items():
        found = kernels[kernel].count(*CAPABILITIES[name].opcodes)
        assert bool(found) == is_native(target, name), (name, kernel)


@pytest.mark.parametrize("target", GEMM_TARGETS)
def test_a_kernel_has_the_instructions_of_its_schedule(gemm, target):
    """A K step of 32 is 16 products and 8 fragment loads; a prologue and a step copy 4 times."""
    kernel = gemm[target]["gemm"]
    assert not kernel.spills
    assert kernel.stack == 0
    assert kernel.registers <= 128
    products, loads = kernel.count("HMMA.16816.F32"), kernel.count("LDSM.16")
    assert products % 16 == 0
    assert loads == products // 2
    assert kernel.count("LDGSTS.E") % 4 == 0
    assert not kernel.count(CALL)

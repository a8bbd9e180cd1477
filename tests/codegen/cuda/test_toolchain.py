"""Building cubins: the compilers that are found, what is kept, and what a refusal says."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from qcc.codegen.cuda import compilers, toolchain
from qcc.codegen.cuda import resources as resource_counts
from qcc.codegen.cuda.compilers import Nvcc, Outcome, find_compiler, nvrtc_libraries
from qcc.codegen.cuda.resources import resources
from qcc.codegen.cuda.toolchain import Job, build
from qcc.dialects.errors import QccError, ResourceError, UnsupportedError

TEXT = """#include "qcc_cuda.cuh"
namespace qcc {
QCC_DEVICE float doubled(float x) { return x + x; }
extern "C" __global__ void __launch_bounds__(32) first(float* x) { x[0] = doubled(x[0]); }
extern "C" __global__ void __launch_bounds__(32) second(float* d, const u32* words) {
  float sum[4] = {};
  u32 a[4], b[2];
  for (int i = 0; i < 4; ++i) a[i] = words[i];
  for (int i = 0; i < 2; ++i) b[i] = words[i];
  mma_m16n8k16_f16(sum, a, b);  // LINE
  d[0] = sum[0];
}
}  // namespace qcc
"""


@pytest.mark.parametrize("module", [compilers, toolchain, resource_counts])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


class Counting:
    """A compiler that does nothing, often."""

    version = "1"

    def __init__(self) -> None:
        self.calls = 0

    def compile(self, source: str, name: str, flags: object) -> Outcome:
        self.calls += 1
        return Outcome(b"cubin", "")


def test_a_cubin_is_built_once_for_what_it_is_made_from(tmp_path):
    compiler = Counting()
    job = Job("k", "text", "sm_80")
    assert build(job, tmp_path, compiler) == build(job, tmp_path, compiler)
    assert compiler.calls == 1
    compiler.version = "2"
    build(job, tmp_path, compiler)
    build(Job("k", "other", "sm_80"), tmp_path, compiler)
    build(Job("k", "text", "sm_80", max_registers=64), tmp_path, compiler)
    build(Job("k", "text", "sm_90a"), tmp_path, compiler)
    assert compiler.calls == 5


def test_a_damaged_entry_is_built_again(tmp_path):
    compiler = Counting()
    build(Job("k", "text", "sm_80"), tmp_path, compiler)
    for file in tmp_path.glob("*.json"):
        file.write_text("{")
    assert build(Job("k", "text", "sm_80"), tmp_path, compiler).code == b"cubin"
    assert compiler.calls == 2


def test_an_unknown_machine_is_refused_before_compiling(tmp_path):
    with pytest.raises(UnsupportedError, match="no CUDA target 'sm_90'"):
        build(Job("k", TEXT, "sm_90"), tmp_path)


def test_without_a_compiler_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(compilers, "in_wheels", lambda pattern: iter(()))
    monkeypatch.setattr(compilers.shutil, "which", lambda name: None)
    with pytest.raises(ResourceError) as caught:
        find_compiler()
    assert caught.value.code == "cuda-compiler-missing"
    assert "qcc[cuda]" in caught.value.next_step


def refusal(text: str, target: str, folder: Path, compiler=None) -> QccError:
    with pytest.raises(QccError) as caught:
        build(Job("text", text, target), folder, compiler)
    assert caught.value.code == "cuda-build"
    return caught.value


def test_a_refusal_names_kernel_line_message_and_reproducer(tmp_path):
    error = refusal(TEXT.replace("words[i]", "word[i]", 1), "sm_80", tmp_path)
    assert error.where.startswith("kernel 'second', text.cu:8: for (int i = 0; i < 4; ++i)")
    assert 'identifier "word" is undefined' in error.why
    folder = Path(error.next_step.split()[-1])
    assert {"text.cu", "command.txt", "message.txt", "qcc_cuda.cuh"} <= {
        file.name for file in folder.iterdir()
    }
    assert "sm_80" in (folder / "command.txt").read_text()


@pytest.mark.skipif(
    not isinstance(find_compiler(), Nvcc), reason="NVRTC keeps no PTX of what ptxas refuses"
)
def test_what_ptxas_refuses_is_traced_to_the_source(tmp_path):
    """e4m3 products need sm_89: ptxas says so about a line of PTX."""
    error = refusal(TEXT.replace("mma_m16n8k16_f16", "mma_m16n8k32_e4m3"), "sm_80", tmp_path)
    assert error.where.startswith("kernel 'second', text.cu:10: ")
    assert "requires .target sm_89" in error.why


def test_nvrtc_builds_and_refuses_as_nvcc_does(tmp_path):
    nvrtc = next(nvrtc_libraries(), None)
    assert nvrtc is not None, "pip install 'qcc[cuda]' brings NVRTC"
    kernels = resources(build(Job("text", TEXT, "sm_90a"), tmp_path, nvrtc))
    assert kernels["second"].count("HMMA.16816.F32") == 1
    error = refusal(TEXT.replace("words[i]", "word[i]", 1), "sm_80", tmp_path, nvrtc)
    assert error.where.startswith("kernel 'second', text.cu:8")


def test_reproducers_are_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(toolchain.tempfile, "tempdir", str(tmp_path))
    error = refusal("nonsense", "sm_80", tmp_path)
    assert str(tmp_path) in error.next_step

"""Kernels as functions of TVM-FFI: what is exported, and calls through the ABI if it is there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tvm_ffi

from qcc.codegen.cuda.ffi_module import Parameter, build_ffi, ffi_source, parameters_of
from qcc.codegen.cuda.plan import Function, LaunchStep, Plan
from qcc.codegen.cuda.program import CudaCode, Source
from qcc.dialects.errors import ResourceError

TEXT = """#include "qcc_cuda.cuh"

namespace qcc {

extern "C" __global__ void __launch_bounds__(32)
scaled(
    const float* x_pointer,
    float* y_pointer,
    float factor,
    int count) {
  const Global<const float> x(x_pointer, count);
  const Global<float> y(y_pointer, count);
  const int i = 32 * blockIdx.x + threadIdx.x;
  if (i < count) y.store(i, factor * x.load(i));
}
QCC_KERNEL(scaled)

extern "C" __global__ void __launch_bounds__(32)
mapped(
    const __grid_constant__ TensorMap x,
    int count) {
}
QCC_KERNEL(mapped)

}  // namespace qcc
"""


@pytest.fixture(scope="module")
def code() -> CudaCode:
    steps = tuple(LaunchStep(name, "groups", (0, 0, 0), 32, 0, ()) for name in ("scaled", "mapped"))
    plan = Plan("sm_80", {"main": Function((), (), steps, ())}, (), ("groups",))
    return CudaCode(plan, (Source("groups", ("scaled", "mapped"), TEXT),), {})


def test_parameters_are_read_from_the_source() -> None:
    assert parameters_of(TEXT, "scaled") == [
        Parameter("x_pointer", ""), Parameter("y_pointer", ""), Parameter("factor", "float"),
        Parameter("count", "int"),
    ]  # fmt: skip
    assert parameters_of(TEXT, "mapped") is None


def test_each_kernel_without_tensor_maps_is_exported(code: CudaCode) -> None:
    text = ffi_source(code, code.sources[0])
    assert "TVM_FFI_DLL_EXPORT_TYPED_FUNC(qcc_scaled, qcc::ffi_scaled);" in text
    assert "call.number<float>(static_cast<float>(factor));" in text
    assert "mapped" not in text


def test_without_the_package_it_is_named(
    code: CudaCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tvm_ffi", None)
    with pytest.raises(ResourceError, match="cannot be exported for TVM-FFI") as told:
        build_ffi(code, tmp_path)
    assert told.value.next_step == "pip install apache-tvm-ffi"


def test_calls_through_the_abi(code: CudaCode, tmp_path: Path) -> None:
    [library] = build_ffi(code, tmp_path)
    function = tvm_ffi.load_module(str(library))["qcc_scaled"]
    x, y = np.arange(70, dtype=np.float32), np.zeros(70, np.float32)
    function(tvm_ffi.from_dlpack(x), tvm_ffi.from_dlpack(y), 0.5, 70, 3, 1, 1)
    np.testing.assert_array_equal(y, x / 2)
    with pytest.raises(RuntimeError, match=r"kernel 'scaled', line \d+"):
        function(tvm_ffi.from_dlpack(x), tvm_ffi.from_dlpack(y[:40].copy()), 0.5, 70, 3, 1, 1)

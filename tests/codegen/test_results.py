"""Who owns what a call returns: the arrays over it, and nobody else."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

from qcc.codegen.cpu.build import build_object
from qcc.codegen.cpu.lower import lower_to_llvm
from qcc.codegen.cpu.runtime import BufferType, CompiledObject, _Allocation
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.pipeline import run_passes

PROGRAM = """
func.func @softened(%x: tensor<?x256xf32>) -> tensor<?x256xf32> {
  %y = math.absf %x : tensor<?x256xf32>
  return %y : tensor<?x256xf32>
}
func.func @two(%x: tensor<?x256xf32>, %s: tensor<f32>) -> (tensor<?x256xf32>, tensor<f32>) {
  %y = math.absf %x : tensor<?x256xf32>
  %t = math.absf %s : tensor<f32>
  return %y, %t : tensor<?x256xf32>, tensor<f32>
}
func.func @brains(%x: tensor<3xbf16>) -> tensor<3xbf16> {
  %y = arith.negf %x : tensor<3xbf16>
  return %y : tensor<3xbf16>
}
"""
MATRIX = BufferType(np.dtype(np.float32), 2)
SCALAR = BufferType(np.dtype(np.float32), 0)


@pytest.fixture(scope="module")
def loaded() -> Iterator[CompiledObject]:
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(PROGRAM)
        run_passes(module, "func.func(convert-elementwise-to-linalg)", "cpu")
        lower_to_llvm(module)
        loaded = CompiledObject(build_object(module), [], 2)
    yield loaded
    loaded.close()


def negatives(rows: int) -> np.ndarray:
    return -np.arange(rows * 256, dtype=np.float32).reshape(rows, 256)


def test_a_view_keeps_the_memory(loaded: CompiledObject, monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[int] = []
    monkeypatch.setattr(_Allocation, "__del__", lambda self: freed.append(self._allocated))
    whole = loaded.call("softened", [negatives(8)], [MATRIX])[0]
    view = whole[2:, ::2].T
    address = whole.ctypes.data
    del whole
    gc.collect()

    def own() -> list[int]:
        """Not those of other tests, whose garbage may be collected here."""
        return [each for each in freed if 0 <= address - each < 128]

    assert own() == []
    assert view[3, 1] == 3 * 256 + 6
    del view
    assert len(own()) == 1


def test_results_are_given_back(loaded: CompiledObject) -> None:
    x = negatives(4096)
    loaded.call("softened", [x], [MATRIX])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        loaded.call("softened", [x], [MATRIX])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_results_of_several_kinds(loaded: CompiledObject) -> None:
    for rows in (3, 1, 0):
        matrix, scalar = loaded.call(
            "two", [negatives(rows), np.array(-2.5, np.float32)], [MATRIX, SCALAR]
        )
        np.testing.assert_array_equal(matrix, -negatives(rows))
        assert (matrix.shape, scalar.shape) == ((rows, 256), ())
        assert scalar == 2.5
        matrix += 1
        assert matrix.flags.writeable


def test_arrays_that_cannot_lend_a_buffer(loaded: CompiledObject) -> None:
    x = negatives(6)
    x.flags.writeable = False
    strided = negatives(12)[::2]
    np.testing.assert_array_equal(loaded.call("softened", [x], [MATRIX])[0], -x)
    np.testing.assert_array_equal(loaded.call("softened", [strided], [MATRIX])[0], -strided)


def test_types_that_numpy_has_from_others(loaded: CompiledObject) -> None:
    x = np.array([-1, 2.5, -3], ml_dtypes.bfloat16)
    (y,) = loaded.call("brains", [x], [BufferType(x.dtype, 1)])
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.astype(np.float32), [1, -2.5, 3])

"""A call that the system refuses memory ends with an error, frees what it holds, and harms none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qcc.codegen.cpu import thread_stack
from qcc.codegen.cpu.code import build_code
from qcc.codegen.cpu.runtime import BufferType, CompiledObject
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import ResourceError

OUTER = """
#row = affine_map<(i, j) -> (i)>
#column = affine_map<(i, j) -> (j)>
#both = affine_map<(i, j) -> (i, j)>
func.func @main(%x: tensor<?xf32>) -> (tensor<?xf32>, tensor<?x?xf32>) {
  %zero = arith.constant 0 : index
  %n = tensor.dim %x, %zero : tensor<?xf32>
  %to = tensor.empty(%n) : tensor<?xf32>
  %e = linalg.exp ins(%x : tensor<?xf32>) outs(%to : tensor<?xf32>) -> tensor<?xf32>
  %empty = tensor.empty(%n, %n) : tensor<?x?xf32>
  %y = linalg.generic {
    indexing_maps = [#row, #column, #both], iterator_types = ["parallel", "parallel"]
  } ins(%e, %e : tensor<?xf32>, tensor<?xf32>) outs(%empty : tensor<?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %_: f32):
    %product = arith.mulf %a, %b : f32
    linalg.yield %product : f32
  } -> tensor<?x?xf32>
  return %e, %y : tensor<?xf32>, tensor<?x?xf32>
}"""
RESULTS = [BufferType(np.dtype(np.float32), rank) for rank in (1, 2)]
TOO_MANY = 1 << 23
"""Floats whose products with one another take more bytes than a processor can address."""


@pytest.fixture(scope="module")
def outer() -> Iterator[CompiledObject]:
    with make_context(), ir.Location.unknown():
        loaded = CompiledObject(build_code(ir.Module.parse(OUTER)).object, [], 1)
    yield loaded
    loaded.close()


def test_a_refused_call_raises_and_the_next_one_computes(outer: CompiledObject) -> None:
    x = np.linspace(0, 1, 100, dtype=np.float32)
    expected = outer.call("main", [x], RESULTS)[1]
    for _ in range(2):
        with pytest.raises(ResourceError, match="bytes more of memory") as caught:
            outer.call("main", [np.zeros(TOO_MANY, np.float32)], RESULTS)
        assert caught.value.code == "cpu-memory"
        np.testing.assert_array_equal(outer.call("main", [x], RESULTS)[1], expected)


def test_a_thread_with_a_small_stack_is_refused(outer: CompiledObject) -> None:
    codes: dict[int, str] = {}

    def call(size: int) -> None:
        try:
            outer.call("main", [np.ones(3, np.float32)], RESULTS)
            codes[size] = ""
        except ResourceError as error:
            codes[size] = error.code

    before = threading.stack_size()
    try:
        for size in (256 << 10, 1 << 20):
            threading.stack_size(size)
            thread = threading.Thread(target=call, args=(size,))
            thread.start()
            thread.join()
    finally:
        threading.stack_size(before)
    assert codes == {256 << 10: "cpu-stack", 1 << 20: ""}


def test_workers_with_small_stacks_are_refused(
    outer: CompiledObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_stack, "LEAST_BYTES", 1 << 40)
    with pytest.raises(ResourceError, match="new threads get"):
        outer._start_workers(2)


def test_a_refused_call_frees_what_it_holds(outer: CompiledObject) -> None:
    x, before = np.zeros(TOO_MANY, np.float32), 0
    for turn in range(4):
        with pytest.raises(ResourceError):
            outer.call("main", [x], RESULTS)
        before = before or _resident()
        assert turn == 0 or _resident() < before + x.nbytes


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_results_stay_the_callers(outer: CompiledObject) -> None:
    x = np.linspace(0, 1, 300, dtype=np.float32)
    kept = outer.call("main", [x], RESULTS)[1]
    copy = kept.copy()
    with pytest.raises(ResourceError):
        outer.call("main", [np.zeros(TOO_MANY, np.float32)], RESULTS)
    outer.call("main", [x[::-1].copy()], RESULTS)
    np.testing.assert_array_equal(kept, copy)

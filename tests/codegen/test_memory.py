"""Buffers of a call: large ones serve again, few are kept, none is used twice at once."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from importlib.resources import files

import numpy as np
import pytest

from qcc.codegen.cpu.build import build_object
from qcc.codegen.cpu.keep_buffers import keep_buffers
from qcc.codegen.cpu.library import scratch
from qcc.codegen.cpu.lower import LLVM
from qcc.codegen.cpu.runtime import CompiledObject
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.cpu.schedule import SCRATCH_BYTES
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.pipeline import run_passes

KIB = 1024
DRIVER = """
llvm.func @take(%bytes: i64) -> i64 {
  %buffer = llvm.call @_mlir_memref_to_llvm_alloc(%bytes) : (i64) -> !llvm.ptr
  %address = llvm.ptrtoint %buffer : !llvm.ptr to i64
  llvm.return %address : i64
}
llvm.func @give(%address: i64) {
  %buffer = llvm.inttoptr %address : i64 to !llvm.ptr
  llvm.call @_mlir_memref_to_llvm_free(%buffer) : (!llvm.ptr) -> ()
  llvm.return
}
llvm.func @trim() {
  llvm.call @qcc_trim_kept() : () -> ()
  llvm.return
}
llvm.func @end() {
  llvm.call @qcc_free_kept() : () -> ()
  llvm.return
}
"""


class Memory:
    def __init__(self, code: bytes) -> None:
        self.object = CompiledObject(code, [], 1)
        self.take: Callable[[int], int] = self.object._function(
            "take", ctypes.c_int64, ctypes.c_int64
        )
        self.give: Callable[[int], None] = self.object._function("give", None, ctypes.c_int64)
        self.trim: Callable[[], None] = self.object._function("trim", None)
        self.end: Callable[[], None] = self.object._function("end", None)


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    folder = files("qcc.codegen.cpu")
    names = ("threads.mlir", "parameters.mlir", "memory.mlir")
    with make_context(), ir.Location.unknown():
        fixed = [(folder / name).read_text() for name in names]
        module = ir.Module.parse("\n".join([*fixed, DRIVER]))
        run_passes(module, LLVM, "cpu")
        memory = Memory(build_object(module))
    yield memory
    memory.object.close()


def test_the_closest_large_buffer_serves_again(memory: Memory) -> None:
    small, large = memory.take(100 * KIB), memory.take(180 * KIB)
    memory.give(small)
    memory.give(large)
    assert memory.take(150 * KIB) == large
    assert memory.take(90 * KIB) == small
    for address in (small, large):
        memory.give(address)
    memory.end()


def test_a_buffer_is_not_wasted_on_less_than_half(memory: Memory) -> None:
    large = memory.take(1024 * KIB)
    memory.give(large)
    other = memory.take(300 * KIB)
    assert other != large
    memory.give(other)
    memory.end()


def test_buffers_in_use_never_overlap(memory: Memory) -> None:
    """More of random sizes than can be kept, taken and given in random order, each its own."""
    random = np.random.default_rng(0)
    held: dict[int, int] = {}
    for _ in range(500):
        if len(held) > 50 or (held and random.random() < 0.45):
            address = list(held)[random.integers(len(held))]
            size = held.pop(address)
            assert (ctypes.c_ubyte * size).from_address(address)[size - 1] == address // 64 % 251
            memory.give(address)
        else:
            size = int(random.integers(1, 400 * KIB))
            address = memory.take(size)
            assert size < 64 * KIB or address % 64 == 0
            assert all(address + size <= a or a + s <= address for a, s in held.items())
            (ctypes.c_ubyte * size).from_address(address)[size - 1] = address // 64 % 251
            held[address] = size
    for address in held:
        memory.give(address)
    memory.end()


def test_little_is_kept_from_call_to_call(memory: Memory) -> None:
    mib = 1024 * KIB
    buffers = [memory.take(12 * mib) for _ in range(3)]
    for address in buffers:
        memory.give(address)
    memory.trim()
    again = [memory.take(12 * mib) for _ in range(2)]
    assert sorted(again) == sorted(buffers[:2])
    for address in again:
        memory.give(address)
    memory.end()


def test_public_functions_free_what_is_too_much(check) -> None:
    # CHECK:     func.func @main
    # CHECK:       llvm.call @qcc_trim_kept()
    # CHECK-NEXT:  return
    # CHECK:     func.func private @helper
    # CHECK-NOT:   qcc_trim_kept
    text = """
      llvm.func @qcc_trim_kept()
      func.func @main() { return }
      func.func private @helper() { return }"""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        keep_buffers(module)
        check(str(module).partition("llvm.func @qcc_trim_kept")[2])


def test_what_no_stack_has_room_for_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="stack of a thread") as refused:
        scratch(SCRATCH_BYTES // 4 + 1)
    assert refused.value.code == "cpu-scratch"

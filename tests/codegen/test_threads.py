"""
The thread pool under many small jobs: each index of a job is computed once, by its return.

A driver in MLIR runs jobs whose sizes, grains and delays follow a random sequence, and after each
job counts the elements that do not hold the job's number. The object around it holds nothing else.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from importlib.resources import files

import numpy as np
import pytest

from qcc.codegen.cpu.build import build_object
from qcc.codegen.cpu.lower import LLVM
from qcc.codegen.cpu.runtime import CompiledObject
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.pipeline import run_passes

# Adds 1 to each element of its range; one range in `rarity` pauses for `length` turns before it,
# and with `nested` each element is reached through a job of its own.
DRIVER = """
llvm.func @usleep(i32) -> i32
llvm.func @add_one(%job: !llvm.ptr, %begin: i64, %end: i64) {
  %one = llvm.mlir.constant(1 : i64) : i64
  %zero = llvm.mlir.constant(0 : i64) : i64
  %counts = llvm.load %job : !llvm.ptr -> !llvm.ptr
  %rarity_at = llvm.getelementptr %job[1] : (!llvm.ptr) -> !llvm.ptr, i64
  %length_at = llvm.getelementptr %job[2] : (!llvm.ptr) -> !llvm.ptr, i64
  %rarity = llvm.load %rarity_at : !llvm.ptr -> i64
  %length = llvm.load %length_at : !llvm.ptr -> i64
  %rest = llvm.urem %end, %rarity : i64
  %slow = llvm.icmp "eq" %rest, %zero : i64
  scf.if %slow {
    scf.for %i = %zero to %length step %one : i64 {
      llvm.call_intrinsic "llvm.x86.sse2.pause"() : () -> ()
    }
  }
  scf.for %i = %begin to %end step %one : i64 {
    %at = llvm.getelementptr %counts[%i] : (!llvm.ptr, i64) -> !llvm.ptr, i64
    %old = llvm.atomicrmw add %at, %one monotonic : !llvm.ptr, i64
  }
  llvm.return
}
llvm.func @nested(%job: !llvm.ptr, %begin: i64, %end: i64) {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %eight = llvm.mlir.constant(8 : i64) : i64
  %slots = llvm.mlir.constant(3 : i64) : i64
  %counts = llvm.load %job : !llvm.ptr -> !llvm.ptr
  %first = llvm.getelementptr %counts[%begin] : (!llvm.ptr, i64) -> !llvm.ptr, i64
  %inner = llvm.alloca %slots x i64 : (i64) -> !llvm.ptr
  %rarity_at = llvm.getelementptr %inner[1] : (!llvm.ptr) -> !llvm.ptr, i64
  %length_at = llvm.getelementptr %inner[2] : (!llvm.ptr) -> !llvm.ptr, i64
  llvm.store %first, %inner : !llvm.ptr, !llvm.ptr
  llvm.store %eight, %rarity_at : i64, !llvm.ptr
  llvm.store %zero, %length_at : i64, !llvm.ptr
  %add_one = llvm.mlir.addressof @add_one : !llvm.ptr
  %total = llvm.sub %end, %begin : i64
  llvm.call @qcc_parallel_for(%add_one, %inner, %total, %one)
    : (!llvm.ptr, !llvm.ptr, i64, i64) -> ()
  llvm.return
}
// Runs `jobs` jobs over parts of counts[0, size) and returns how many elements were ever wrong.
// One job in `rests` sleeps first, long enough for the workers to park.
llvm.func @drive(%counts: !llvm.ptr, %size: i64, %jobs: i64, %seed: i64, %rests: i64,
                 %use_nested: i64) -> i64 {
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %slots = llvm.mlir.constant(3 : i64) : i64
  %factor = llvm.mlir.constant(6364136223846793005 : i64) : i64
  %addend = llvm.mlir.constant(1442695040888963407 : i64) : i64
  %add_one = llvm.mlir.addressof @add_one : !llvm.ptr
  %nested = llvm.mlir.addressof @nested : !llvm.ptr
  %plain = llvm.icmp "eq" %use_nested, %zero : i64
  %body = llvm.select %plain, %add_one, %nested : i1, !llvm.ptr
  %job = llvm.alloca %slots x i64 : (i64) -> !llvm.ptr
  %rarity_at = llvm.getelementptr %job[1] : (!llvm.ptr) -> !llvm.ptr, i64
  %length_at = llvm.getelementptr %job[2] : (!llvm.ptr) -> !llvm.ptr, i64
  %c3 = llvm.mlir.constant(3 : i64) : i64
  %c33 = llvm.mlir.constant(33 : i64) : i64
  %c40 = llvm.mlir.constant(40 : i64) : i64
  %c48 = llvm.mlir.constant(48 : i64) : i64
  %nine = llvm.mlir.constant(9 : i64) : i64
  %longest = llvm.mlir.constant(300 : i64) : i64
  %nap = llvm.mlir.constant(300 : i32) : i32
  %state, %wrong = scf.for %i = %zero to %jobs step %one
      iter_args(%s = %seed, %w = %zero) -> (i64, i64) : i64 {
    %product = llvm.mul %s, %factor : i64
    %random = llvm.add %product, %addend : i64
    %a = llvm.lshr %random, %c33 : i64
    %b = llvm.lshr %random, %c40 : i64
    %c = llvm.lshr %random, %c48 : i64
    %some = llvm.urem %a, %size : i64
    %total = llvm.add %some, %one : i64
    %any_grain = llvm.urem %b, %nine : i64
    %grain = llvm.add %any_grain, %one : i64
    %length = llvm.urem %c, %longest : i64
    %any_rarity = llvm.urem %c, %nine : i64
    %rarity = llvm.add %any_rarity, %c3 : i64
    %rest = llvm.urem %c, %rests : i64
    %rested = llvm.icmp "eq" %rest, %zero : i64
    scf.if %rested {
      %slept = llvm.call @usleep(%nap) : (i32) -> i32
    }
    scf.for %j = %zero to %total step %one : i64 {
      %at = llvm.getelementptr %counts[%j] : (!llvm.ptr, i64) -> !llvm.ptr, i64
      llvm.store %i, %at : i64, !llvm.ptr
    }
    llvm.store %counts, %job : !llvm.ptr, !llvm.ptr
    llvm.store %rarity, %rarity_at : i64, !llvm.ptr
    llvm.store %length, %length_at : i64, !llvm.ptr
    llvm.call @qcc_parallel_for(%body, %job, %total, %grain)
      : (!llvm.ptr, !llvm.ptr, i64, i64) -> ()
    %expected = llvm.add %i, %one : i64
    %w_job = scf.for %j = %zero to %total step %one iter_args(%wj = %w) -> (i64) : i64 {
      %at = llvm.getelementptr %counts[%j] : (!llvm.ptr, i64) -> !llvm.ptr, i64
      %found = llvm.load %at : !llvm.ptr -> i64
      %differs = llvm.icmp "ne" %found, %expected : i64
      %more = llvm.zext %differs : i1 to i64
      %wj_next = llvm.add %wj, %more : i64
      scf.yield %wj_next : i64
    }
    scf.yield %random, %w_job : i64, i64
  }
  llvm.return %wrong : i64
}
"""


@pytest.fixture(scope="module")
def code() -> bytes:
    folder = files("qcc.codegen.cpu")
    fixed = [(folder / name).read_text() for name in ("threads.mlir", "parameters.mlir")]
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse("\n".join([*fixed, DRIVER]))
        run_passes(module, LLVM, "cpu")
        return build_object(module)


class Pool:
    def __init__(self, code: bytes, threads: int) -> None:
        self.object = CompiledObject(code, [], threads)
        self._drive = self.object._function(
            "drive", ctypes.c_int64, ctypes.c_void_p, *[ctypes.c_int64] * 5
        )

    def wrong(
        self, jobs: int, size: int = 200, seed: int = 1, rests: int = 1 << 20, nested: bool = False
    ) -> int:
        """The number of elements that a run of jobs left wrong; other threads may run meanwhile."""
        counts = np.zeros(size, np.int64)
        return self._drive(counts.ctypes.data, size, jobs, seed, rests, int(nested))


@pytest.fixture(params=[1, 2, 3, 8])
def pool(code: bytes, request: pytest.FixtureRequest) -> Iterator[Pool]:
    pool = Pool(code, request.param)
    yield pool
    pool.object.close()


def test_back_to_back_jobs_are_exact(pool: Pool) -> None:
    assert pool.wrong(jobs=5000) == 0


def test_tiny_jobs_are_exact(pool: Pool) -> None:
    assert pool.wrong(jobs=5000, size=3) == 0


def test_jobs_after_rests_are_exact(pool: Pool) -> None:
    assert pool.wrong(jobs=300, rests=2) == 0


def test_jobs_inside_jobs_are_exact(pool: Pool) -> None:
    assert pool.wrong(jobs=500, nested=True) == 0


def wrong_by_thread(pools: list[Pool], jobs: int) -> list[int]:
    """What a thread for each of `pools` finds wrong, all running at once."""
    found = [-1] * len(pools)

    def work(index: int) -> None:
        found[index] = pools[index].wrong(jobs, seed=index, rests=50)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(pools))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_threads_share_one_pool(pool: Pool) -> None:
    assert wrong_by_thread([pool] * 3, jobs=500) == [0, 0, 0]


def test_two_pools_run_at_once(code: bytes, pool: Pool) -> None:
    other = Pool(code, 2)
    assert wrong_by_thread([pool, other, pool, other], jobs=400) == [0] * 4
    other.object.close()


def test_a_child_forked_amid_jobs_computes(pool: Pool) -> None:
    found: list[int] = []
    busy = threading.Thread(target=lambda: found.append(pool.wrong(jobs=2000, rests=200)))
    busy.start()
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0 if pool.wrong(jobs=50) == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
    busy.join()
    assert found == [0]


def test_an_idle_pool_ends_and_starts_again(code: bytes) -> None:
    pool = Pool(code, 1)
    start = pool.object._function("qcc_start_workers", ctypes.c_int64, ctypes.c_int64)
    stop = pool.object._function("qcc_stop_workers", None)
    for turn in range(50):
        assert start(turn % 4) == turn % 4
        assert pool.wrong(jobs=turn % 3 * 10, seed=turn) == 0
        stop()
    pool.object.close()

"""What hardware leaves undefined is refused, with kernel, thread and source line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcc.codegen.cuda.emulator import ALL_MODES, KernelViolation, Mode, build_emulated
from qcc.dialects.errors import QccError, UsageError

SOURCE = (Path(__file__).parent / "violations.cu").read_text().splitlines()
VIOLATIONS = {
    "read_beyond_buffer": ("out-of-bounds", "element 64 of 64"),
    "view_beyond_buffer": ("out-of-bounds", "argument 0, which has 256 bytes"),
    "write_beyond_shared": ("out-of-bounds", "element"),
    "view_beyond_shared": ("out-of-bounds", "shared memory, which has 1024 bytes"),
    "misaligned_load": ("misaligned", "reads 16 bytes"),
    "misaligned_copy": ("misaligned", "copies from 16 bytes"),
    "uninitialised_read": ("uninitialised", "byte 256 of shared memory"),
    "race_between_warps": ("race", "with no barrier between"),
    "race_in_warp": ("race", "with no barrier between"),
    "two_writers": ("race", "writes byte"),
    "copy_seen_by_others": ("race", "reads byte"),
    "copy_not_committed": ("race", "was not waited for"),
    "diverged_shuffle": ("divergence", "shuffle_xor"),
    "returned_lanes": ("divergence", "have returned"),
    "barrier_of_one_warp": ("deadlock", "sync_named"),
    "different_counts": ("misuse", "by other warps for"),
    "waits_for_later_block": ("deadlock", "polls"),
    "writes_a_constant": ("misuse", "argument 1 is written and also viewed as constant"),
}
# Whoever comes first decides which of two accesses is the wrong one.
OTHER_FAULTS = {
    "race_between_warps": "uninitialised",
    "race_in_warp": "uninitialised",
    "copy_seen_by_others": "uninitialised",
    "different_counts": "deadlock",
}
SEVERAL_PLACES = {*OTHER_FAULTS, "diverged_shuffle", "uninitialised_read"}


def launch(module, kernel: str, mode: Mode = ALL_MODES[0]):
    x, y = np.arange(64, dtype=np.uint32), np.zeros(64, np.uint32)
    module.launch(kernel, 1, 64, 1024, [x, y, 64], mode)
    return y


@pytest.mark.parametrize("mode", ALL_MODES, ids=lambda mode: f"{mode.copies}-{mode.order}")
@pytest.mark.parametrize("kernel", VIOLATIONS)
def test_violation_is_found(emulated, kernel, mode):
    fault, message = VIOLATIONS[kernel]
    with pytest.raises(KernelViolation) as caught:
        launch(emulated("violations"), kernel, mode)
    error = caught.value
    assert error.fault in (fault, OTHER_FAULTS.get(kernel))
    assert error.code == f"emulated-{error.fault}"
    assert message in str(error) or kernel in SEVERAL_PLACES
    assert f"kernel '{kernel}'" in str(error)
    if kernel not in SEVERAL_PLACES:
        assert f"LINE {kernel}" in SOURCE[error.place.line - 1]


def test_the_report_reads_well(emulated, check):
    with pytest.raises(KernelViolation) as caught:
        launch(emulated("violations"), "two_writers")
    # CHECK: [emulated-race] kernel 'two_writers': writes byte 0 of shared memory, which thread 0
    # CHECK-SAME: writes (line [[LINE:[0-9]+]]) with no barrier between
    # CHECK-NEXT: where: violations.cu:[[LINE]] in block (0, 0, 0), thread (1, 0, 0)
    # CHECK-NEXT: tile.store(threadIdx.x / 2, threadIdx.x);
    # CHECK-NEXT: next: this is a bug in the kernel
    check(str(caught.value))


@pytest.mark.parametrize("mode", ALL_MODES, ids=lambda mode: f"{mode.copies}-{mode.order}")
def test_legal_neighbours_pass(emulated, mode):
    module, lane = emulated("violations"), np.arange(32)
    copied = launch(module, "empty_copies_beyond_buffer", mode)
    np.testing.assert_array_equal(copied[:16], np.arange(3, 64, 4))
    np.testing.assert_array_equal(copied[16:], 0)
    received = launch(module, "producer_and_consumer", mode)
    np.testing.assert_array_equal(received[32:], 300 + 3 * (31 - lane))
    np.testing.assert_array_equal(launch(module, "whole_warps_return", mode)[:32], 31 - lane)


def test_a_module_survives_a_violation(emulated):
    module = emulated("violations")
    for _ in range(3):
        with pytest.raises(KernelViolation):
            launch(module, "diverged_shuffle")
        launch(module, "producer_and_consumer")


X = np.zeros(64, np.uint32)


@pytest.mark.parametrize(
    ("block", "arguments", "code"),
    [
        (64, [X, 64], "launch-arguments"),
        (64, [1.5, X, 64], "launch-arguments"),
        (64, [X[::2], X, 64], "launch-arguments"),
        (64, [X, X, 1 << 40], "launch-arguments"),
        (40, [X, X, 64], "launch-size"),
        (2048, [X, X, 64], "launch-size"),
    ],
)
def test_wrong_launches_are_refused(emulated, block, arguments, code):
    with pytest.raises(UsageError) as caught:
        emulated("violations").launch("producer_and_consumer", 1, block, 1024, arguments)
    assert caught.value.code == code


def test_unknown_kernels_and_bad_sources_are_refused(emulated, tmp_path):
    with pytest.raises(UsageError, match="no kernel 'nothing'"):
        emulated("violations").launch("nothing", 1, 32, 0, [])
    with pytest.raises(QccError) as caught:
        build_emulated("nonsense;", tmp_path, "broken")
    assert caught.value.code == "emulated-build"
    assert "broken.cu:1" in caught.value.why


def test_arrays_that_no_stack_holds_are_refused_when_built(tmp_path):
    text = """#include "qcc_cuda.cuh"
namespace qcc {
extern "C" __global__ void large(float* y, int n) {
  float values[16384];
  for (int i = 0; i < 16384; ++i) values[i] = float(i * n);
  Global<float>(y, 1).store(0, values[n]);
}
QCC_KERNEL(large)
}
"""
    with pytest.raises(QccError, match="refuses the emitted source") as caught:
        build_emulated(text, tmp_path, "large")
    assert "frame size" in caught.value.why

"""A kernel written by hand under the emulator: right in every mode, and its planted bugs found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcc.codegen.cuda.emulator import ALL_MODES, KernelViolation, Mode, device_array

LAZY, EAGER = Mode("lazy", checks=False), Mode("eager", checks=False)
BUGS = ("gemm_no_wait", "gemm_no_barrier_before_reads", "gemm_no_barrier_before_reuse")


def product(module, kernel: str, shape: tuple[int, int, int], mode: Mode):
    """The result of the kernel and what it should be; integers, so that every sum is exact."""
    m, n, k = shape
    random = np.random.default_rng(m + n + k)
    a, b = (device_array(random.integers(-8, 9, (rows, k)).astype("f2")) for rows in (m, n))
    c = np.full((m, n), np.nan, np.float32)
    grid = (-(-n // 64), -(-m // 64))
    counters = module.launch(kernel, grid, 128, 16384, [a, b, c, m, n, k], mode)
    return c, a.astype(np.float32) @ b.astype(np.float32).T, counters


@pytest.mark.parametrize("mode", ALL_MODES, ids=lambda mode: f"{mode.copies}-{mode.order}")
@pytest.mark.parametrize("shape", [(64, 64, 128), (130, 70, 104), (1, 9, 8)])
def test_gemm_is_exact_in_every_mode(emulated, shape, mode):
    result, expected, _ = product(emulated("gemm"), "gemm", shape, mode)
    np.testing.assert_array_equal(result, expected)


def test_two_workers_give_the_same(emulated):
    result, expected, _ = product(emulated("gemm"), "gemm", (130, 70, 64), Mode(workers=2))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("kernel", "lazy_shows", "eager_shows"),
    [(BUGS[0], True, False), (BUGS[1], True, True), (BUGS[2], False, True)],
)
def test_results_betray_a_bug_in_one_mode_or_the_other(emulated, kernel, lazy_shows, eager_shows):
    """Without tags: the table of spec cuda.md §6.2."""
    for mode, shows in ((LAZY, lazy_shows), (EAGER, eager_shows)):
        result, expected, _ = product(emulated("gemm"), kernel, (128, 128, 256), mode)
        assert np.array_equal(result, expected) != shows, (kernel, mode)


@pytest.mark.parametrize("mode", ALL_MODES, ids=lambda mode: f"{mode.copies}-{mode.order}")
@pytest.mark.parametrize("kernel", BUGS)
def test_tags_find_every_bug_in_every_mode(emulated, kernel, mode):
    with pytest.raises(KernelViolation) as caught:
        product(emulated("gemm"), kernel, (64, 64, 256), mode)
    assert caught.value.fault in ("race", "uninitialised")
    assert caught.value.place.kernel == kernel


def test_counters_are_those_of_the_schedule(emulated):
    """2 x 2 blocks of 4 warps, 4 steps of 32: what the text does, multiplied out."""
    *_, counters = product(emulated("gemm"), "gemm", (128, 128, 128), replace(Mode(), trace=True))
    warps, steps = 4 * 4, 4
    assert counters["mma_half"] == warps * steps * 2 * 8
    assert counters["multiply_adds"] == 128 * 128 * 128
    assert counters["matrix_loads"] == warps * steps * 2 * 4
    assert counters["async_copy_bytes"] == 4 * steps * 2 * 64 * 64
    assert counters["global_sectors_read"] == counters["async_copy_bytes"] // 32
    assert counters["bank_conflicts"] == 0


def test_truncated_accumulators_lose_what_hardware_may_lose(emulated):
    """1 + 2^-13 in fp16 products: kept by fp32 sums, cut by an accumulator of 10 bits."""
    module = emulated("functions")
    a = np.zeros((32, 8), np.float16)
    a[0, :2] = 1, 2.0**-13  # lane 0 holds A[0, 0] and A[0, 1]
    b = np.ones((32, 4), np.float16)
    for bits, kept in ((0, 2.0**-13), (20, 2.0**-13), (10, 0)):
        d = np.zeros((32, 4), np.float32)
        mode = Mode(accumulator_bits=bits)
        words = [a.view(np.uint32), b.view(np.uint32), d]
        module.launch("multiply_m16n8k16_f16", 1, 32, 0, words, mode)
        assert d[0, 0] == 1 + kept

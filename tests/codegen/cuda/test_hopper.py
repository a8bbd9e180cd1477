"""Tensor copies, mbarriers and products of warp groups, under the emulator and in SASS."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from qcc.codegen.cuda.emulator import ALL_MODES, KernelViolation, Mode, device_array, tensor_map
from qcc.codegen.cuda.resources import resources
from qcc.codegen.cuda.toolchain import Job, build

ROWS, TOKENS, STAGES, ROW_BYTES = 64, 32, 2, 128
SHARED = STAGES * (ROWS + TOKENS) * ROW_BYTES + 16 * STAGES
KINDS = {
    "f16": (np.float16, np.float16, np.float32),
    "bf16": (ml_dtypes.bfloat16, ml_dtypes.bfloat16, np.float32),
    "e4m3": (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fn, np.float32),
    "e5m2": (ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2, np.float32),
    "s8": (np.int8, np.int8, np.int32),
    "u8s8": (np.uint8, np.int8, np.int32),
}
KERNELS = ("f16_registers", "f16_shared", "bf16_registers", "e4m3_registers", "e4m3_shared",
           "e5m2_registers", "s8_registers", "s8_shared", "u8s8_registers")  # fmt: skip
BUGS = ("bug_no_wait", "bug_no_expect", "bug_released_too_early", "bug_not_awaited")


def product(module, kernel: str, kind: str, mode: Mode, tokens: int = TOKENS, depth: int = 320):
    """Y^T of the kernel and of NumPy: small integers, whose sums are exact in every type."""
    kind_w, kind_x, kind_y = KINDS[kind]
    random = np.random.default_rng(depth)
    low = 0 if kind == "u8s8" else -3
    w = device_array(random.integers(low, 4, (2 * ROWS, depth)).astype(kind_w))
    x = device_array(random.integers(-3, 4, (tokens, depth)).astype(kind_x))
    y = np.zeros((2 * ROWS, TOKENS), kind_y)
    width = ROW_BYTES // x.itemsize
    maps = tensor_map(x, (TOKENS, width), 128), tensor_map(w, (ROWS, width), 128)
    arguments = [*maps, w.view(np.uint32), y, depth]
    counters = module.launch(kernel, 2, 160, SHARED, arguments, mode)
    expected = np.zeros_like(y)
    expected[:, :tokens] = w.astype(kind_y) @ x.astype(kind_y).T
    return y, expected, counters


@pytest.mark.parametrize("mode", ALL_MODES, ids=lambda mode: f"{mode.copies}-{mode.order}")
@pytest.mark.parametrize("kernel", KERNELS)
def test_products_of_a_warp_group(emulated, kernel, mode):
    kind = kernel.split("_")[0]
    depth = 640 if kind in ("e4m3", "e5m2", "s8", "u8s8") else 320
    y, expected, counters = product(emulated("hopper"), kernel, kind, mode, depth=depth)
    np.testing.assert_array_equal(y, expected)
    assert counters["multiply_adds"] == 2 * ROWS * TOKENS * depth


def test_copies_beyond_the_edge_are_zero(emulated):
    y, expected, _ = product(emulated("hopper"), "f16_shared", "f16", Mode(), tokens=19)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("mode", ALL_MODES, ids=lambda mode: f"{mode.copies}-{mode.order}")
@pytest.mark.parametrize("kernel", BUGS)
def test_planted_bugs_are_found(emulated, kernel, mode):
    """By a violation, or, where registers were read too early, by the results."""
    try:
        y, expected, _ = product(emulated("hopper"), kernel, "f16", mode)
    except KernelViolation as violation:
        assert violation.fault in ("race", "uninitialised", "deadlock", "misuse")  # noqa: PT017
    else:
        hidden = mode.copies == "eager" and kernel in ("bug_not_awaited", "bug_released_too_early")
        assert hidden or not np.array_equal(y, expected)


def test_what_threads_write_needs_a_fence_before_products(emulated):
    y = np.zeros(128, np.float32)
    emulated("hopper").launch("ones_fenced", 1, 128, SHARED, [y])
    np.testing.assert_array_equal(y, 16)
    with pytest.raises(KernelViolation, match="without fence_async_proxy"):
        emulated("hopper").launch("ones_not_fenced", 1, 128, SHARED, [y])


@pytest.mark.parametrize("mode", ALL_MODES, ids=lambda mode: f"{mode.copies}-{mode.order}")
def test_bulk_copies_boxes_and_stored_matrices(emulated, mode):
    """Boxes of 4 x 4 x 4 and 2 x 2 x 4 x 4 words; the second begins a row before the tensor."""
    words = device_array(np.arange(64, dtype=np.uint32))
    cube = device_array(np.arange(8 * 6 * 12, dtype=np.uint32).reshape(8, 6, 12))
    four = device_array(np.arange(3 * 2 * 5 * 4, dtype=np.uint32).reshape(3, 2, 5, 4))
    out = np.zeros((4, 64), np.uint32)
    maps = tensor_map(cube, (4, 4, 4)), tensor_map(four, (2, 2, 4, 4))
    emulated("hopper").launch("move_boxes", 1, 128, 1032, [words, *maps, out], mode)
    np.testing.assert_array_equal(out[0], words)
    np.testing.assert_array_equal(out[1].reshape(4, 4, 4), cube[2:6, 1:5, 4:8])
    np.testing.assert_array_equal(out[2].reshape(2, 2, 4, 4)[:, :, 1:], four[1:3, :, :3])
    np.testing.assert_array_equal(out[2].reshape(2, 2, 4, 4)[:, :, 0], 0)
    np.testing.assert_array_equal(out[3], words)


def test_sass_has_the_products_of_a_warp_group(tmp_path):
    text = (Path(__file__).parent / "hopper.cu").read_text()
    kernels = resources(build(Job("hopper", text, "sm_90a"), tmp_path))
    for kernel in KERNELS:
        kind = kernel.split("_")[0]
        opcode = {"f": "HGMMA", "b": "HGMMA", "e": "QGMMA", "s": "IGMMA", "u": "IGMMA"}[kind[0]]
        cost = kernels[kernel]
        assert cost.count(opcode) == 4 * (cost.count(opcode) // 4) > 0, kernel
        assert cost.count("UTMALDG") > 0
        assert not cost.spills
        assert not cost.warnings, kernel
    assert kernels["bug_not_awaited"].warnings
    for opcode in ("UBLKCP", "UTMALDG", "STSM.16", "USETMAXREG", "SYNCS"):
        assert kernels["move_boxes"].count(opcode) > 0, opcode

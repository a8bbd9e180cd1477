"""Every scale mode of AMXFP4 against a second reading of formats.md 1.2 and 1.3."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from qcc.dialects.formats import format

F32 = np.float32
TIES = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], F32)
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], F32)
SCALES: dict[str, dict[str, Any]] = {
    "e5m2": {},
    "e4m3": {"two_level": False},
    "e4m3 max480": {"max480": True},
    "e4m3 two-level": {},
    "e4m3 given level": {"tensor_scale": 0.125},
    "pot": {},
    "potr": {},
    "fp32": {},
}


def positive(kind: Any, *more: float) -> np.ndarray:
    """The finite values of a scale type that are not negative, in order."""
    values = np.arange(128, dtype=np.uint8).view(kind).astype(np.float64)
    return np.array([*values[np.isfinite(values)], *more])


TABLES = {
    "e5m2": positive(ml_dtypes.float8_e5m2),
    "e4m3": positive(ml_dtypes.float8_e4m3fn),
    "e4m3 max480": positive(ml_dtypes.float8_e4m3fn, 480.0),
}


def rounded_scale(mode: str, largest: np.ndarray, level: F32) -> np.ndarray:
    """R of formats.md 1.3 for maxima [blocks, 1], the guard before it and hazard 1 after it."""
    if mode in ("pot", "potr"):
        fraction, exponent = np.frexp(largest)  # fraction in [1/2, 1)
        raised = (mode == "potr") & (fraction >= 0.875)
        return np.where(largest > 0, np.ldexp(1.0, exponent - 3 + raised), 1).astype(F32)
    wanted = largest / F32(6) / level
    wanted = np.where(wanted == 0, F32(1), wanted)
    if mode == "fp32":
        return wanted
    table = TABLES.get(mode, TABLES["e4m3"])
    ties = (table[1:] + table[:-1]) / 2
    found = table[np.searchsorted(ties, wanted.astype(np.float64), side="right")]
    return np.where(found == 0, 1, found).astype(F32) * level


def reference(mode: str, x: np.ndarray) -> np.ndarray:
    level = F32(1)
    if mode == "e4m3 two-level":
        level = np.abs(x).max() / F32(448 * 6)
    elif mode == "e4m3 given level":
        level = F32(0.125)
    above = rounded_scale(mode, np.maximum(x.max(1, keepdims=True), 0), level)
    below = rounded_scale(mode, np.maximum(-x.min(1, keepdims=True), 0), level)
    scale = np.where(x > 0, above, below)
    magnitude = E2M1[np.searchsorted(TIES, np.abs(x / scale), side="right")]
    return np.sign(x) * magnitude * scale


def every_half(order: str) -> np.ndarray:
    """All finite fp16 numbers as blocks of 32: of like numbers, or of any."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    values = halves[np.isfinite(halves)].astype(F32)
    if order == "sorted":
        return np.sort(values).reshape(-1, 32)
    return np.random.default_rng(5).permutation(values).reshape(-1, 32)


@pytest.mark.parametrize("order", ["sorted", "mixed"])
@pytest.mark.parametrize("mode", SCALES)
def test_every_half_precision_number(mode: str, order: str) -> None:
    x = every_half(order)
    fmt = format("amxfp4", scale=mode.split()[0], **SCALES[mode])
    values = fmt.quantize(x).dequantize()
    np.testing.assert_array_equal(values, reference(mode, x))


def test_small_blocks_survive_under_a_tensor_scale() -> None:
    """Hazard 4: an E4M3 scale by itself has nothing below 2^-9."""
    x = np.random.default_rng(0).standard_normal((64, 32)).astype(F32) * F32(1e-4)
    fine = format("amxfp4", scale="e4m3").quantize(x)
    assert fine.scales["tensor_scale"] == np.abs(x).max() / F32(448 * 6)
    error = np.abs(fine.dequantize() - x).max() / np.abs(x).max()
    assert error < 0.2
    assert not format("amxfp4", scale="e4m3", two_level=False).quantize(x).dequantize().any()


@pytest.mark.parametrize("scale", ["e5m2", "pot", "potr", "fp32"])
def test_only_e4m3_has_a_second_level(scale: str) -> None:
    assert format("amxfp4", scale=scale).tensor_roles == frozenset()
    assert format("amxfp4", scale="e4m3").tensor_roles == {"tensor_scale"}

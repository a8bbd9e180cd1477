"""Weights of minifloats that meet rows of x times a power of two: for x of any size."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.codegen.cpu.features import host_features
from qcc.dialects.formats import from_definition

WITHOUT_512 = [name for name in host_features() if not name.startswith("avx512")]
FEATURES = {"host": None, "avx2": WITHOUT_512, "baseline": []}
SEVEN_BITS = from_definition(
    """format seven {
      element minifloat exponent=4 mantissa=2; block size=16; scale scale type=e8m0 rule=floor;
    }"""
)
CASES = [
    ("fp8_e4m3<group=channel>", 83, 301), ("mxfp8_e5m2", 17, 96),
    ("fp8_e5m2<group=tensor>", 16, 70), ("nestedfp16", 65, 131), ("fp16", 18, 44),
    ("bf16", 17, 40), (SEVEN_BITS.spelling, 33, 48),
]  # fmt: skip
LAYER = """
  %w = "qcc.param"() {{symbol = "{name}", layout = "panel16"}} : () -> {weight}
  %y = "qcc.linear"(%x, %w) {{operandSegmentSizes = array<i32: 1, 1, 0>}}
    : (tensor<?x{k}xf32>, {weight}) -> tensor<?x{n}xf32>
  return %y : tensor<?x{n}xf32>
"""
UNIT = 2.0**-24


@pytest.fixture(scope="module", params=FEATURES)
def layers(request, make_programs, floats):
    programs = make_programs(FEATURES[request.param])
    for i, (spelling, n, k) in enumerate(CASES):
        weight = programs.parameter(f"l{i}", floats(n, k, seed=i) / 4, spelling, panels=True)
        text = LAYER.format(name=f"l{i}", weight=weight, n=n, k=k)
        programs.function(f"l{i}", f"(%x: tensor<?x{k}xf32>) -> tensor<?x{n}xf32>", text)
    return programs


def check(layers, index: int, x: np.ndarray) -> None:
    """Against sums in double precision; the same bits on any number of threads."""
    k, weight = x.shape[1], layers.decoded[f"l{index}"].astype(np.float64)
    exact = x.astype(np.float64) @ weight.T
    magnitude = np.abs(x).astype(np.float64) @ np.abs(weight).T
    found = layers.run(f"l{index}", x, rank=2)
    for result in found.values():
        np.testing.assert_array_equal(result, found[1])
    assert (np.abs(found[1] - exact) <= (k + 4) * UNIT * magnitude + k * 2.0**-149).all()


@pytest.mark.parametrize("m", [1, 3, 5])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_normal_values(layers, floats, index: int, m: int) -> None:
    check(layers, index, floats(m, CASES[index][2], seed=m))


@pytest.mark.parametrize("index", range(len(CASES)))
@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-30, 1e-9, 1e15, 1e32])
def test_x_of_any_size(layers, floats, index: int, size: float) -> None:
    check(layers, index, floats(1, CASES[index][2]) * np.float32(size))


@pytest.mark.parametrize("index", range(len(CASES)))
def test_any_range_in_one_row(layers, floats, index: int) -> None:
    k = CASES[index][2]
    x = floats(2, k)
    x[0] *= np.float32(10) ** np.random.default_rng(1).integers(-36, 33, k).astype(np.float32)
    x[1, 7::32] = 1e32
    for row in x:
        check(layers, index, row[None])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(layers, floats, bad: float) -> None:
    x = floats(1, CASES[0][2])
    x[0, 50] = bad
    expected = layers.expected("l0", x)
    for found in layers.run("l0", x, rank=2).values():
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        infinite = np.isinf(expected)
        np.testing.assert_array_equal(found[infinite], expected[infinite])


def test_zeros(layers) -> None:
    n, k = CASES[0][1:]
    for found in layers.run("l0", np.zeros((1, k), np.float32), rank=2).values():
        np.testing.assert_array_equal(found, np.zeros((1, n)))

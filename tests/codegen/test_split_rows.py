"""Layers on fp32 activations that are split into bytes: as exact as fp32 sums, for any values."""

from __future__ import annotations

import re

import numpy as np
import pytest

from qcc.codegen.cpu.convert_qcc_to_kernels import convert_qcc_to_kernels
from qcc.codegen.cpu.features import host_features
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import from_definition

WITHOUT_512 = [name for name in host_features() if not name.startswith("avx512")]
FEATURES = {
    "host": None,
    "byte tables of sixteen": [name for name in host_features() if name != "avx512vbmi"],
    "avx2": WITHOUT_512,
}
TENTHS = from_definition(
    """format tenths {
      element table values=[-0.3, -0.1, 0, 0.1, 0.2, 0.5, 0.7, 1];
      block size=channel; scale scale type=fp32 rule=absmax;
    }"""
)
CASES = [
    ("int4<group=32>", 17, 320), ("int8", 83, 301), ("dint4<group=32>", 33, 256),
    ("nvfp4<two_level=true>", 16, 400), ("amxfp4", 20, 256), ("sawb4<group=channel>", 16, 516),
    ("uint4<group=96>", 31, 288), ("mxfp6_e2m3", 16, 288), ("int2<group=16>", 1, 272),
    ("int3<group=160>", 16, 320), (TENTHS.spelling, 18, 260),
    ("mxfp4", 33, 304), ("amxfp4<scale=e4m3>", 17, 304), ("nvfp4", 16, 272),
    ("int4<group=32,scale=fp16>", 17, 320), ("dint4<group=32,scale=bf16>", 16, 288),
]  # fmt: skip
# Sums of whole integers fit 32 bits just so.
EXTREMES = ["int4<group=32>", "mxfp4", "amxfp4", "nvfp4", "int3<group=64>", "int2<group=64>"]
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
    whole = np.random.default_rng(0).integers(-7, 8, (16, 288)).astype(np.float32)
    whole[:, ::32] = 7
    weights = [(f"s{i}", floats(n, k, seed=i) / 4, case) for i, (case, n, k) in enumerate(CASES)]
    for spelling in EXTREMES:
        name, signs = spelling.partition("<")[0], np.where(np.arange(16) % 2, 1, -1)
        values = np.repeat(signs.astype(np.float32)[:, None], 256, axis=1)
        weights.append((f"extreme {name}".replace(" ", "_"), values, spelling))
    # Each row picks one value of x, with the weight 7.
    picks = np.zeros((16, 288), np.float32)
    picks[np.arange(16), 3 + 17 * np.arange(16)] = 7
    signs = np.where(np.arange(16)[:, None] % 2, 1, -1) * np.linspace(0.5, 1, 64)[None]
    weights.append(("signs", signs.astype(np.float32), "amxfp4<scale=fp32>"))
    others = [("whole", whole, "int4<group=32>"), ("picks", picks, "int4<group=channel>")]
    for name, values, spelling in [*weights, *others]:
        n, k = values.shape
        weight = programs.parameter(name, values, spelling, panels=True)
        text = LAYER.format(name=name, weight=weight, n=n, k=k)
        programs.function(name, f"(%x: tensor<?x{k}xf32>) -> tensor<?x{n}xf32>", text)
    return programs


def check(layers, index: int, x: np.ndarray) -> None:
    """
    Against sums in double precision, by the bound of split_rows.py: k for the splitting, a few
    for each block, and for the two roundings that SAWB's own values have.
    """
    k = x.shape[1]
    weight = layers.decoded[f"s{index}"].astype(np.float64)
    exact = x.astype(np.float64) @ weight.T
    magnitude = np.abs(x).astype(np.float64) @ np.abs(weight).T
    bound = (k + 3 * k / 16 + 20) * UNIT * magnitude + k * 2.0**-149
    found = layers.run(f"s{index}", x, rank=2)
    for result in found.values():
        np.testing.assert_array_equal(result, found[1])
    error = np.abs(found[1] - exact)
    assert (error <= bound).all(), f"{CASES[index]}: {np.max(error / bound):.3g} of the bound"


@pytest.mark.parametrize("m", [1, 3, 5])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_normal_values(layers, floats, index: int, m: int) -> None:
    check(layers, index, floats(m, CASES[index][2], seed=m))


@pytest.mark.parametrize("size", [1e-30, 1e-18, 1e-7, 1e9, 1e25])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_values_of_any_size(layers, floats, index: int, size: float) -> None:
    check(layers, index, floats(1, CASES[index][2], seed=7) * np.float32(size))


@pytest.mark.parametrize("index", range(len(CASES)))
def test_any_range_in_one_block(layers, floats, index: int) -> None:
    """Outliers, which could drown their block: the bound holds for weights that ignore them."""
    k = CASES[index][2]
    x = floats(4, k)
    x[0, 7::32] *= 3e4
    x[1] *= np.float32(10) ** np.random.default_rng(1).integers(-30, 30, k).astype(np.float32)
    x[2, 64:128] = 0
    x[2, 70] = 1e-40
    x[3] *= np.float32(1e-38)
    check(layers, index, x)
    check(layers, index, x[:1])


@pytest.mark.parametrize("spelling", EXTREMES)
@pytest.mark.parametrize("largest", [1.0, 1.33, 1.9999])
def test_the_largest_sums(layers, spelling: str, largest: float) -> None:
    x = np.full((2, 256), largest, np.float32)
    x[1] *= -1
    name = f"extreme_{spelling.partition('<')[0]}"
    exact = x.astype(np.float64) @ layers.decoded[name].T.astype(np.float64)
    for found in layers.run(name, x, rank=2).values():
        np.testing.assert_allclose(found, exact, rtol=2.0**-20)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(layers, floats, bad: float) -> None:
    x = floats(2, CASES[0][2])
    x[1, 50] = bad
    expected = layers.expected("s0", x)
    for found in layers.run("s0", x, rank=2).values():
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        infinite = np.isinf(expected)
        np.testing.assert_array_equal(found[infinite], expected[infinite])
        assert np.isfinite(found[0]).all()


@pytest.mark.parametrize("m", [1, 3, 5])
def test_infinities_meet_no_zeros_of_the_other_sign(layers, floats, m: int) -> None:
    """In rows too short to be split, whose blocks have sums of each sign in other layers."""
    x = floats(m, 64)
    x[-1, 7] = -np.inf
    expected = layers.expected("signs", x)
    assert np.isinf(expected[-1]).all()
    for found in layers.run("signs", x, rank=2).values():
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_zeros_and_the_largest_numbers(layers) -> None:
    n, k = CASES[0][1:]
    for found in layers.run("s0", np.zeros((1, k), np.float32), rank=2).values():
        np.testing.assert_array_equal(found, np.zeros((1, n)))
    x = np.zeros((1, k), np.float32)
    x[0, ::64] = np.finfo(np.float32).max / 16
    check(layers, 0, x)


@pytest.mark.parametrize("index", [i for i, case in enumerate(CASES) if case[0] != "int8"])
def test_numbers_so_large_that_only_results_are_finite(layers, floats, index: int) -> None:
    """Sums of products with integers would overflow before scales (int8's do without VNNI)."""
    check(layers, index, floats(3, CASES[index][2], seed=99) * np.float32(4e36))


def test_values_alone_move_by_no_more_than_the_bound(layers, floats) -> None:
    """The smallest of a block, which no larger product hides."""
    x = floats(4, 288)
    x[:, 3::17] *= np.array([[1], [1e-2], [1e-4], [1e-6]], np.float32)
    blocks = np.abs(np.pad(x, [(0, 0), (0, 32)]).reshape(4, -1, 64)).max(-1)
    largest = np.repeat(blocks, 64, axis=1)[:, 3 : 3 + 17 * 16 : 17]
    exact = x[:, 3 : 3 + 17 * 16 : 17].astype(np.float64)
    bound = np.maximum(288 * UNIT * np.abs(exact), 2.02 * UNIT * largest) + 4 * UNIT * np.abs(exact)
    for found in layers.run("picks", x, rank=2).values():
        assert (np.abs(found / 7 - exact) <= bound).all()


def test_whole_numbers_are_exact(layers) -> None:
    """Weights whose scale is 1 and sums below 2**24 leave nothing to round."""
    x = np.random.default_rng(3).integers(-(2**12), 2**12, (2, 288)).astype(np.float32)
    x[:, ::16] = 2**12
    exact = x.astype(np.int64) @ layers.decoded["whole"].T.astype(np.int64)
    for found in layers.run("whole", x, rank=2).values():
        np.testing.assert_array_equal(found, exact.astype(np.float32))


def test_layers_share_what_their_input_is_split_into() -> None:
    packed = '!qcc.packed<tensor<16x256xf32>, "int4<group=32>">'
    free = '!qcc.packed<tensor<16x256xf32>, "nf4">'
    linear = "operandSegmentSizes = array<i32: 1, 1, 0>"
    text = f"""
func.func @main(%x: tensor<?x256xf32>)
    -> (tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>) {{
  %u = "qcc.param"() {{symbol = "u", layout = "panel16"}} : () -> {packed}
  %v = "qcc.param"() {{symbol = "v", layout = "panel16"}} : () -> {packed}
  %w = "qcc.param"() {{symbol = "w", layout = "panel16"}} : () -> {free}
  %a = "qcc.linear"(%x, %u) {{{linear}}} : (tensor<?x256xf32>, {packed}) -> tensor<?x16xf32>
  %b = "qcc.linear"(%x, %v) {{{linear}}} : (tensor<?x256xf32>, {packed}) -> tensor<?x16xf32>
  %c = "qcc.linear"(%x, %w) {{{linear}}} : (tensor<?x256xf32>, {free}) -> tensor<?x16xf32>
  return %a, %b, %c : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>
}}"""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        convert_qcc_to_kernels(module, host_features())
        calls = re.findall(r"\bcall @(kernel_\d+)", str(module))
    assert calls == ["kernel_0", "kernel_1", "kernel_1", "kernel_2"]

"""Long rows of fp32 in two bytes, block by block where split_rows.py allows it, else in three."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.codegen.cpu.convert_qcc_to_kernels import convert_qcc_to_kernels
from qcc.codegen.cpu.features import host_features
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UsageError

WITHOUT_512 = [name for name in host_features() if not name.startswith("avx512")]
FEATURES = {"host": None, "avx2": WITHOUT_512}
CASES = [
    ("amxfp4", 17, 1056), ("int2<group=32>", 16, 1031), ("dint4<group=32>", 33, 1024),
    ("int4<group=48>", 16, 1301),
]  # fmt: skip
IN_THREE = 0
PICKED, PICKS_K = range(3, 3 + 16 * 61, 61), 1024
BLIND_K = 4096
LAYER = """
  %w = "qcc.param"() {{symbol = "{symbol}", layout = "panel16"}} : () -> {weight}
  %y = "qcc.linear"(%x, %w) {{operandSegmentSizes = array<i32: 1, 1, 0>{attribute}}}
    : (tensor<?x{k}xf32>, {weight}) -> tensor<?x{n}xf32>
  return %y : tensor<?x{n}xf32>
"""
UNIT = 2.0**-24


def add_layer(programs, name: str, symbol: str, weight: str, shape, x_bytes: int | None) -> None:
    n, k = shape
    attribute = "" if x_bytes is None else f", x_bytes = {x_bytes} : i64"
    text = LAYER.format(symbol=symbol, weight=weight, n=n, k=k, attribute=attribute)
    programs.function(name, f"(%x: tensor<?x{k}xf32>) -> tensor<?x{n}xf32>", text)


@pytest.fixture(scope="module", params=FEATURES)
def layers(request, make_programs, floats):
    programs = make_programs(FEATURES[request.param])
    for index, (spelling, n, k) in enumerate(CASES):
        values = floats(n, k, seed=index) / 4
        weight = programs.parameter(f"s{index}", values, spelling, panels=True)
        add_layer(programs, f"short{index}", f"s{index}", weight, (n, k), 2)
        if index == IN_THREE:
            add_layer(programs, "three", f"s{index}", weight, (n, k), 3)
    # Each row picks one value of x, with the weight 7.
    picks = np.zeros((16, PICKS_K), np.float32)
    picks[np.arange(16), PICKED] = 7
    weight = programs.parameter("picks", picks, "int4<group=channel>", panels=True)
    add_layer(programs, "picks", "picks", weight, picks.shape, 2)
    blind = np.where(np.arange(BLIND_K) % 64, 1, np.zeros((16, 1))).astype(np.float32)
    weight = programs.parameter("blind", blind, "int2<group=channel>", panels=True)
    add_layer(programs, "blind", "blind", weight, blind.shape, 2)
    return programs


def in_blocks(values: np.ndarray) -> np.ndarray:
    """[rows, k] → [rows, blocks, 64], with zeros at the end."""
    rows, k = values.shape
    return np.pad(np.abs(values).astype(np.float64), [(0, 0), (0, -k % 64)]).reshape(rows, -1, 64)


def check(layers, index: int, x: np.ndarray) -> None:
    """
    Against sums in double precision, by the bound of split_rows.py for both kinds of blocks, and
    a few roundings for each of them.
    """
    k, weight = x.shape[1], layers.decoded[f"s{index}"]
    exact = x.astype(np.float64) @ weight.astype(np.float64).T
    magnitude = np.abs(x).astype(np.float64) @ np.abs(weight).astype(np.float64).T
    counts = np.minimum(64, k - np.arange(0, k, 64))
    short = in_blocks(x).sum(-1) / counts @ in_blocks(weight).sum(-1).T
    bound = UNIT * (k * np.maximum(short, magnitude) + (3 * k / 16 + 20) * magnitude)
    found = layers.run(f"short{index}", x, rank=2)
    for result in found.values():
        np.testing.assert_array_equal(result, found[1])
    error = np.abs(found[1] - exact)
    assert (error <= bound + k * 2.0**-149).all(), f"{np.max(error / bound):.3g} of the bound"


def rows_of(kind: str, k: int) -> np.ndarray:
    generator = np.random.default_rng(k)
    normal = generator.standard_normal((2, k))
    outlier = np.where(np.arange(k) % 64 == 5, 1e4, 1) * normal
    made = {
        "normal": normal, "heavy tails": generator.standard_t(2, (2, k)), "one outlier": outlier,
        "tiny": normal * 1e-36, "subnormal": normal * 1e-41, "huge": normal * 1e25,
        "largest": normal * 4e36, "any range": normal * 10.0 ** generator.integers(-30, 30, k),
        "zeros": np.where(np.arange(k) // 64 % 2, normal, 0), "one value": np.full((2, k), 1.9999),
    }  # fmt: skip
    return made[kind].astype(np.float32)


KINDS = ["normal", "heavy tails", "one outlier", "tiny", "subnormal", "huge", "largest",
         "any range", "zeros", "one value"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", range(len(CASES)))
def test_the_bound_holds(layers, index: int, kind: str) -> None:
    check(layers, index, rows_of(kind, CASES[index][2]))


def relative_error(layers, name: str, symbol: str, x: np.ndarray) -> float:
    exact = x.astype(np.float64) @ layers.decoded[symbol].astype(np.float64).T
    found = layers.run(name, x, rank=2)[1]
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("index", range(len(CASES)))
def test_normal_values_take_two_bytes(layers, index: int) -> None:
    """Which the error tells: 2^-16 of a block's largest value."""
    x = rows_of("normal", CASES[index][2])
    assert 3e-6 < relative_error(layers, f"short{index}", f"s{index}", x) < 6e-5


def test_layers_may_ask_for_three_bytes(layers) -> None:
    x = rows_of("normal", CASES[IN_THREE][2])
    assert relative_error(layers, "three", f"s{IN_THREE}", x) < 1e-6


def test_single_values_move_by_no_more_than_the_bound(layers) -> None:
    """Small values beside larger ones; where those are outliers, blocks have three bytes."""
    x = rows_of("normal", PICKS_K)
    x[:, PICKED] *= np.array([[1], [1e-4]], np.float32)
    outlying = x.copy()
    outlying[:, 7::64] = 1000
    for rows, part in ((x, 1 / 65000), (outlying, 1.01 * 2.0**-23)):
        largest = np.repeat(in_blocks(rows).max(-1), 64, axis=1)[:, PICKED]
        exact = rows[:, PICKED].astype(np.float64)
        bound = part * largest + 8 * UNIT * np.abs(exact)
        for found in layers.run("picks", rows, rank=2).values():
            assert (np.abs(found / 7 - exact) <= bound).all()


def test_outliers_that_no_weight_sees_move_little(layers) -> None:
    """Whatever their size, values beside them move by no more than additions move products."""
    x = np.ones((200, BLIND_K), np.float32)
    x[:, ::64] = np.geomspace(1, 1e6, 200)[:, None]
    for first in range(0, 200, 4):
        for found in layers.run("blind", x[first : first + 4], rank=2).values():
            np.testing.assert_allclose(found, BLIND_K * 63 / 64, rtol=1.4 * BLIND_K * UNIT)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(layers, bad: float) -> None:
    x = rows_of("normal", CASES[2][2])
    x[1, 500] = bad
    expected = layers.expected("short2", x)
    for found in layers.run("short2", x, rank=2).values():
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        infinite = np.isinf(expected)
        np.testing.assert_array_equal(found[infinite], expected[infinite])
        assert np.isfinite(found[0]).all()


@pytest.mark.parametrize("given", ["1 : i64", "4 : i64", '"two"'])
def test_other_numbers_of_bytes_are_refused(given: str) -> None:
    weight = '!qcc.packed<tensor<16x256xf32>, "int4<group=32>">'
    body = LAYER.format(symbol="w", weight=weight, n=16, k=256, attribute=f", x_bytes = {given}")
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(
            f"func.func @f(%x: tensor<?x256xf32>) -> tensor<?x16xf32> {{{body}}}"
        )
        with pytest.raises(UsageError, match="x_bytes"):
            convert_qcc_to_kernels(module, host_features())

"""Linear layers whose input is rounded to integers: exact sums, on each instruction set."""

from __future__ import annotations

import re

import numpy as np
import pytest

from qcc.codegen.cpu import library
from qcc.codegen.cpu.convert_qcc_to_kernels import convert_qcc_to_kernels
from qcc.codegen.cpu.features import host_features
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import parse_spelling

WITHOUT_512 = [name for name in host_features() if not name.startswith("avx512")]
FEATURES = {
    "host": None,
    "byte tables of sixteen": [name for name in host_features() if name != "avx512vbmi"],
    "avx2": WITHOUT_512,
}
CASES = [
    ("int4<group=32>", "int8", 17, 96), ("int8", "int8", 85, 69), ("int3<group=32>", "int8", 7, 64),
    ("int2<group=16>", "mxint8", 40, 160), ("uint4<group=32>", "int8<group=16>", 33, 64),
    ("dint3", "int8", 16, 224), ("dint4<group=32>", "int8<group=64>", 5, 128),
    ("int8<symmetric=false>", "int8<group=tensor>", 17, 64), ("amxfp4", "int8", 20, 70),
    ("nvfp4<two_level=true>", "int8", 16, 48), ("mxint8", "int4", 31, 33), ("int6", "int8", 1, 1),
    ("int5", "int8", 18, 160), ("int4<symmetric=false>", "int8", 16, 100),
    ("nf4<group=16>", "int8", 16, 32), ("int8", "uint8", 16, 40),
    ("int4<group=32,scale=fp16>", "int8<scale=bf16>", 17, 96), ("uint4<scale=bf16>", "int8", 9, 64),
]  # fmt: skip
LAYER = """
  %w = "qcc.param"() {{symbol = "{name}", layout = "panel16"}} : () -> {weight}
  %q = "qcc.quantize"(%x) : (tensor<?x{k}xf32>) -> !qcc.packed<tensor<?x{k}xf32>, "{rounding}">
  %d = "qcc.dequantize"(%q)
    : (!qcc.packed<tensor<?x{k}xf32>, "{rounding}">) -> tensor<?x{k}xf32>
  %y = "qcc.linear"(%d, %w) {{operandSegmentSizes = array<i32: 1, 1, 0>}}
    : (tensor<?x{k}xf32>, {weight}) -> tensor<?x{n}xf32>
  return %y : tensor<?x{n}xf32>
"""
EXACT_K = 4096


def layer(name: str, weight: str, rounding: str, n: int, k: int) -> tuple[str, str]:
    text = LAYER.format(name=name, weight=weight, rounding=rounding, n=n, k=k)
    return f"(%x: tensor<?x{k}xf32>) -> tensor<?x{n}xf32>", text


@pytest.fixture(scope="module", params=FEATURES)
def layers(request, make_programs, floats):
    programs = make_programs(FEATURES[request.param])
    for i, (spelling, rounding, n, k) in enumerate(CASES):
        weight = programs.parameter(f"c{i}", floats(n, k, seed=i) / 4, spelling, panels=True)
        programs.function(f"c{i}", *layer(f"c{i}", weight, rounding, n, k))
    signs = np.repeat([1, -1], 8)[:, None]
    weight = programs.parameter("ends", np.abs(floats(16, 64)) * signs, "dint4", panels=True)
    programs.function("ends", *layer("ends", weight, "int8", 16, 64))
    for spelling in ("int8", "int4"):
        values = whole_numbers(16, 127 if spelling == "int8" else 7)
        weight = programs.parameter(f"exact_{spelling}", values, spelling, panels=True)
        name = f"exact_{spelling}"
        programs.function(name, *layer(name, weight, "int8", 16, EXACT_K))
    return programs


def whole_numbers(rows: int, largest: int) -> np.ndarray:
    """Whose scale is 1, so that codes are values: most are near one end."""
    values = np.random.default_rng(rows).integers(largest // 2, largest + 1, (rows, EXACT_K))
    values[:, 0] = largest
    return values.astype(np.float32)


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8, 17])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_against_the_interpreter(layers, floats, index: int, m: int) -> None:
    _, rounding, _, k = CASES[index]
    x = floats(m, k, seed=m)
    rounded = parse_spelling(rounding).quantize(x).dequantize()
    magnitude = np.abs(rounded).astype(np.float64) @ np.abs(layers.decoded[f"c{index}"]).T
    expected = layers.check(f"c{index}", x, bound=2 * (k + 2) * 2.0**-24 * magnitude)
    assert np.abs(expected).max() > 0


@pytest.mark.parametrize("m", [1, 9])
def test_zero_points_at_both_ends(layers, floats, m: int) -> None:
    """The first and the last code: differences of codes are as wide as they can be."""
    assert set(layers.stored["ends/zero_point"].ravel()) == {0, 13}
    x = floats(m, 64)
    rounded = parse_spelling("int8").quantize(x).dequantize()
    magnitude = np.abs(rounded).astype(np.float64) @ np.abs(layers.decoded["ends"]).T
    layers.check("ends", x, bound=128 * 2.0**-24 * magnitude)


@pytest.mark.parametrize("spelling", ["int8", "int4"])
@pytest.mark.parametrize("m", [1, 3, 9])
def test_sums_are_exact(layers, spelling: str, m: int) -> None:
    """Sums above 2**24, which fp32 additions would have rounded on the way."""
    x = whole_numbers(m, 127)
    weight = layers.decoded[f"exact_{spelling}"]
    exact = x.astype(np.int64) @ weight.T.astype(np.int64)
    for found in layers.run(f"exact_{spelling}", x, rank=2).values():
        np.testing.assert_array_equal(found, exact.astype(np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite(layers, floats, bad: float) -> None:
    x = floats(3, 96)
    x[1, 50] = bad
    for found in layers.run("c0", x, rank=2).values():
        assert np.isnan(found[1]).all()
        assert np.isfinite(found[[0, 2]]).all()


def test_layers_share_the_codes_of_their_input() -> None:
    packed = '!qcc.packed<tensor<16x32xf32>, "int4<group=32>">'
    rounded = '!qcc.packed<tensor<?x32xf32>, "int8<group=channel>">'
    linear = "operandSegmentSizes = array<i32: 1, 1, 0>"
    text = f"""
func.func @main(%x: tensor<?x32xf32>) -> (tensor<?x16xf32>, tensor<?x16xf32>) {{
  %v = "qcc.param"() {{symbol = "v", layout = "panel16"}} : () -> {packed}
  %w = "qcc.param"() {{symbol = "w", layout = "panel16"}} : () -> {packed}
  %q = "qcc.quantize"(%x) : (tensor<?x32xf32>) -> {rounded}
  %d = "qcc.dequantize"(%q) : ({rounded}) -> tensor<?x32xf32>
  %y = "qcc.linear"(%d, %v) {{{linear}}} : (tensor<?x32xf32>, {packed}) -> tensor<?x16xf32>
  %z = "qcc.linear"(%d, %w) {{{linear}}} : (tensor<?x32xf32>, {packed}) -> tensor<?x16xf32>
  return %y, %z : tensor<?x16xf32>, tensor<?x16xf32>
}}"""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        convert_qcc_to_kernels(module)
        calls = re.findall(r"\bcall @(kernel_\d+)", str(module))
    assert calls == ["kernel_0", "kernel_1", "kernel_1"]
    assert "qcc." not in str(module)
    # Each layer is left to one thread where its multiply-adds are few.
    assert str(module).count(f"arith.constant {library.SMALL} : i64") == 2

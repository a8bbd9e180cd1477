"""Convolutions of images rounded to integers: exact sums, on each instruction set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from qcc.codegen.cpu.features import host_features
from qcc.dialects.formats import parse_spelling

WITHOUT_512 = [name for name in host_features() if not name.startswith("avx512")]
FEATURES = {
    "host": None,
    "avx2": WITHOUT_512,
    "portable": [name for name in WITHOUT_512 if name != "avx2"],
}


@dataclass(frozen=True)
class Case:
    weight: str
    x: str
    shape: tuple[int, int, int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = False
    image: tuple[int, int] | None = None
    """Rows and columns, where they are known as the kernel is made."""


CASES = [
    Case("int8", "int8<group=tensor>", (16, 16, 3, 3), padding=(1, 1)),
    Case("int8", "int8<group=tensor>", (37, 3, 3, 3), (2, 2), (1, 1), bias=True),
    Case("int4", "int8<group=tensor>", (40, 24, 5, 5), (2, 1), (2, 2), (2, 2)),
    Case("int2", "int8<group=tensor>", (16, 7, 1, 3), (1, 2), (0, 1), bias=True),
    Case("int3", "int4<group=tensor>", (20, 40, 2, 1)),
    Case("int5", "int8<group=tensor>", (32, 64, 3, 3), padding=(1, 2), groups=2),
    Case("int8<group=tensor>", "int8<group=tensor>", (64, 16, 1, 1), groups=4, bias=True),
    Case("int6", "int8<group=tensor>", (17, 1, 3, 3), dilation=(1, 3)),
    Case("int8", "int8<group=tensor>", (33, 8, 3, 3), padding=(1, 1), bias=True, image=(4, 14)),
    Case("int4", "int8<group=tensor>", (16, 12, 3, 3), padding=(1, 1), image=(5, 9)),
    Case("int8", "int8<group=tensor>", (48, 4, 1, 1), image=(2, 3)),
]
IMAGES = [(1, 9, 11), (2, 7, 8), (3, 13, 23)]


def function(index: int, case: Case, weight: str, bias: str) -> tuple[str, str]:
    outputs, channels = case.shape[0], case.shape[1] * case.groups
    seen = "x".join(map(str, case.image)) if case.image else "?x?"
    x, y = f"tensor<?x{channels}x{seen}xf32>", f"tensor<?x{outputs}x{seen}xf32>"
    read = f'%b = "qcc.param"() {{symbol = "b{index}"}} : () -> {bias}' if case.bias else ""
    operands, types = (
        ("%d, %w, %b", f"{x}, {weight}, {bias}") if case.bias else ("%d, %w", f"{x}, {weight}")
    )
    pairs = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    attributes = "".join(f"{name} = array<i64: {a}, {b}>, " for name, (a, b) in pairs.items())
    attributes += f"groups = {case.groups} : i64, "
    attributes += f"operandSegmentSizes = array<i32: 1, 1, {int(case.bias)}>"
    body = f"""
  %w = "qcc.param"() {{symbol = "c{index}", layout = "panel16-taps"}} : () -> {weight}
  {read}
  %q = "qcc.quantize"(%x) : ({x}) -> !qcc.packed<{x}, "{case.x}">
  %d = "qcc.dequantize"(%q) : (!qcc.packed<{x}, "{case.x}">) -> {x}
  %y = "qcc.conv2d"({operands}) {{{attributes}}} : ({types}) -> {y}
  return %y : {y}
"""
    return f"(%x: {x}) -> {y}", body


@pytest.fixture(scope="module", params=FEATURES)
def layers(request, make_programs, floats):
    programs = make_programs(FEATURES[request.param])
    for index, case in enumerate(CASES):
        values = floats(*case.shape, seed=index)
        weight = programs.parameter(f"c{index}", values, case.weight, taps=True)
        bias = programs.parameter(f"b{index}", floats(case.shape[0], seed=99))
        programs.function(f"c{index}", *function(index, case, weight, bias))
    return programs


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("index", range(len(CASES)))
def test_against_the_interpreter(layers, floats, index: int, images: tuple[int, int, int]) -> None:
    case, (count, *sizes) = CASES[index], images
    rows, columns = case.image or sizes
    x = floats(count, case.shape[1] * case.groups, rows, columns, seed=rows)
    rounded = np.abs(parse_spelling(case.x).quantize(x).dequantize()).max()
    reach = np.abs(layers.decoded[f"c{index}"]).reshape(case.shape[0], -1).sum(1)
    magnitude = rounded * reach[None, :, None, None] + 4
    expected = layers.check(f"c{index}", x, bound=case.shape[1] * 9 * 2.0**-23 * magnitude)
    assert np.abs(expected).max() > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite(layers, floats, bad: float) -> None:
    """What reads the row has no value; nothing else is touched, but by an infinite scale."""
    x = floats(2, 16, 9, 9)
    x[1, 3, 4, 5] = bad
    for found in layers.run("c0", x, rank=4).values():
        assert np.isnan(found[1, :, 3:6]).all()
        if np.isnan(bad):
            assert np.isfinite(found[0]).all()
            assert np.isfinite(found[1][:, [0, 1, 2, 6, 7, 8]]).all()


def test_sums_are_exact(make_programs) -> None:
    """Sums above 2**24, which fp32 additions would have rounded on the way."""
    programs, shape = make_programs(None), (16, 256, 3, 3)
    values = np.random.default_rng(0).integers(100, 128, shape).astype(np.float32)
    values[:, 0, 0, 0] = 127
    case = Case("int8", "int8<group=tensor>", shape)
    weight = programs.parameter("c0", values, case.weight, taps=True)
    programs.function("c0", *function(0, case, weight, ""))
    x = np.random.default_rng(1).integers(100, 128, (1, 256, 3, 10)).astype(np.float32)
    x[0, 0, 0, 0] = 127
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (3, 3), axis=(1, 2))
    exact = np.einsum("cywij,ocij->oyw", windows.astype(np.int64), values.astype(np.int64))
    assert exact.max() > 1 << 24
    for found in programs.run("c0", x, rank=4).values():
        np.testing.assert_array_equal(found[0], exact.astype(np.float32))

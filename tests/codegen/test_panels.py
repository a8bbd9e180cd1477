"""Weights in panels: every shape, chunked rows, the embedding, and instruction sets of others."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.codegen.cpu.features import host_features
from qcc.dialects.formats import from_definition

SHAPES = [(1, 1), (2, 97), (16, 16), (17, 31), (31, 48), (48, 33), (33, 4133)]
SPELLINGS = ["int4<group=16>", "nvfp4", "amxfp4", "dint3", "int8", "nf4<group=16>"]
WITHOUT_512 = [name for name in host_features() if not name.startswith("avx512")]
FEATURES = {"host": None, "avx2": WITHOUT_512, "baseline": []}
LINEAR = """
  %w = "qcc.param"() {{symbol = "{name}", layout = "panel16"}} : () -> {weight}
  %y = "qcc.linear"(%x, %w) {{operandSegmentSizes = array<i32: 1, 1, 0>}}
    : (tensor<?x{k}xf32>, {weight}) -> tensor<?x{n}xf32>
  return %y : tensor<?x{n}xf32>
"""
EMBEDDING = """
  %w = "qcc.param"() {{symbol = "{name}", layout = "panel16"}} : () -> {weight}
  %y = "qcc.embedding"(%w, %i) : ({weight}, tensor<?xi64>) -> tensor<?x{k}xf32>
  return %y : tensor<?x{k}xf32>
"""
FIVE_BITS = (
    "format few {{ element table values={0}; block {1}; scale scale type=fp32 rule=absmax; }}"
)
VALUES = [float((-1) ** i * (i + 1) ** 2 / 128) for i in range(32)]
ODD = from_definition(FIVE_BITS.format(VALUES, "size=channel"))
SHORT = from_definition(FIVE_BITS.format(VALUES, "size=8"))
TABLES = [
    ("int4<group=16>", 19, 37),
    ("nestedfp16", 16, 9),
    ("int8", 40, 2100),
    ("mxfp4", 33, 70),
    ("mxfp6_e2m3", 20, 545),
    ("int3<group=8>", 17, 43),
    ("int4<symmetric=false>", 33, 131),
    ("mxfp6_e3m2", 18, 96),
    ("nestedfp16", 33, 70),
    (ODD.spelling, 17, 96),
    (SHORT.spelling, 16, 40),
]
LAYERS = [("nestedfp16", 100, 64), ("mxfp6_e3m2", 18, 100), (ODD.spelling, 17, 96)]  # fmt: skip


@pytest.fixture(scope="module", params=FEATURES)
def linears(request, make_programs, floats):
    programs = make_programs(FEATURES[request.param])
    for i, (n, k) in enumerate(SHAPES):
        spelling = SPELLINGS[i % len(SPELLINGS)]
        name = f"l{n}_{k}"
        weight = programs.parameter(name, floats(n, k, seed=k), spelling, panels=True)
        text = LINEAR.format(name=name, weight=weight, n=n, k=k)
        programs.function(name, f"(%x: tensor<?x{k}xf32>) -> tensor<?x{n}xf32>", text)
    for i, (spelling, n, k) in enumerate(LAYERS):
        weight = programs.parameter(f"f{i}", floats(n, k, seed=i) / 4, spelling, panels=True)
        text = LINEAR.format(name=f"f{i}", weight=weight, n=n, k=k)
        programs.function(f"f{i}", f"(%x: tensor<?x{k}xf32>) -> tensor<?x{n}xf32>", text)
    for i, (spelling, n, k) in enumerate(TABLES):
        weight = programs.parameter(f"t{i}", floats(n, k, seed=i) / 4, spelling, panels=True)
        text = EMBEDDING.format(name=f"t{i}", weight=weight, k=k)
        programs.function(f"t{i}", f"(%i: tensor<?xi64>) -> tensor<?x{k}xf32>", text)
    return programs


@pytest.mark.parametrize("m", [0, 1, 2, 3, 5, 8, 17, 200])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear(linears, floats, shape: tuple[int, int], m: int) -> None:
    n, k = shape
    x = floats(m, k, seed=m)
    weight = linears.decoded[f"l{n}_{k}"]
    magnitude = (np.abs(x) @ np.abs(weight).T).astype(np.float64)
    expected = linears.check(f"l{n}_{k}", x, bound=2 * (k + 2) * 2.0**-24 * magnitude)
    assert m == 0 or np.abs(expected).max() > 0


@pytest.mark.parametrize("m", [1, 5])
@pytest.mark.parametrize("index", range(len(LAYERS)))
def test_elements_that_two_at_a_time_become(linears, floats, index: int, m: int) -> None:
    k = LAYERS[index][2]
    x = floats(m, k, seed=m)
    magnitude = (np.abs(x) @ np.abs(linears.decoded[f"f{index}"]).T).astype(np.float64)
    linears.check(f"f{index}", x, bound=2 * (k + 2) * 2.0**-24 * magnitude)


@pytest.mark.parametrize("index", range(len(TABLES)))
def test_embedding_reads_rows_of_panels(linears, index: int) -> None:
    rows = TABLES[index][1]
    indices = np.array([rows - 1, 0, 1, rows // 2, rows - 1])
    linears.check(f"t{index}", indices, bound=np.zeros(1))

"""qcc.linear, qcc.matmul and qcc.embedding on the CPU against the interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.dialects.formats import available, from_definition, parse_spelling
from qcc.dialects.formats.panels import panel_unit

SIZES = (1, 2, 3, 5, 7, 16, 31, 33, 200)
PLAIN = [*zip(SIZES, SIZES[4:] + SIZES[:4], strict=True), (7, 1), (16, 16), (33, 33), (3, 200)]
PLAIN += [(13, 2053), (6, 1024)]  # more than one part of k, and exactly one
TABLE = "table=[0,0.5,1,1.5,2,3,4,6,0,-0.5,-1,-1.5,-2,-3,-4,-6]"
OPTIONS = {"lut4": f"<{TABLE}>", "nvfp4": "<two_level=true>"}
DEFAULTS = [f"{name}{OPTIONS.get(name, '')}" for name in available()]
GROUPS = [
    *(f"{kind}<group={group}>" for kind in ("int4", "int8", "uint3", "int5")
      for group in ("32", "48", "5", "12", "channel", "tensor")),
    *(f"fp8_e4m3<group={group}>" for group in ("48", "7", "channel", "tensor")),
    *(f"dint4<group={group}>" for group in ("32", "12", "tensor")),
    *(f"nf4<group={group}>" for group in ("48", "12", "channel", "tensor")),
    f"lut4<{TABLE},group=12>", "int4<group=48,symmetric=false>", "int8<symmetric=false>",
    "amxfp4<scale=e5m2>", "amxfp4<scale=e4m3,max480=true>", "amxfp4<scale=e4m3>", "nvfp4",
    "sawb4<group=channel>", "nestedfp16<view=fp8_e4m3>",
]  # fmt: skip
N = 19
DEEP = 44_005  # so that three rows, decoded, are more than a thread keeps
Case = tuple[str, int]


USER = """
format lopsided {
  title "a scale for each sign, under names of the user's own";
  source "this test";
  element minifloat exponent=3 mantissa=4 specials=none rounding=nearest;
  block size=24 ragged=true;
  scale above of=positive type=e4m3 rule=absmax rounding=floor apply=reciprocal flush=smallest;
  scale below of=negative type=e8m0 rule=ceil;
}
""", """
format stepped {
  title "one scale of another name";
  source "this test";
  element minifloat exponent=2 mantissa=3 specials=none signed_zero=false;
  block size=tensor;
  scale step type=e5m2 rule=absmax;
}
"""  # fmt: skip
OWN = [from_definition(text).spelling for text in USER]
LENGTHS = (67, 96, 60, 40)
PACKED = [(name, LENGTHS[i % 4]) for i, name in enumerate((*DEFAULTS, *GROUPS, *OWN))]


LINEAR = """
  %w = "qcc.param"() {{symbol = "{name}"{layout}}} : () -> {weight}
  %b = "qcc.param"() {{symbol = "b{n}"}} : () -> tensor<{n}xf32>
  %y = "qcc.linear"(%x, %w{bias}) {{operandSegmentSizes = array<i32: 1, 1, {has_bias}>}}
    : ({x}, {weight}{bias_type}) -> {y}
  return %y : {y}
"""


def add_linear(
    programs, name: str, weight: str, x: str, y: str, n: int, bias: bool, panels: bool = False
) -> None:
    text = LINEAR.format(
        layout=', layout = "panel16"' if panels else "",
        name=name, weight=weight, x=x, y=y, n=n, has_bias=int(bias),
        bias=", %b" if bias else "", bias_type=f", tensor<{n}xf32>" if bias else "",
    )  # fmt: skip
    programs.function(name, f"(%x: {x}) -> {y}", text)


def dynamic(rank: int, last: int) -> str:
    return f"tensor<{'?x' * (rank - 1)}{last}xf32>"


def rounding(terms: int, magnitude: np.ndarray) -> np.ndarray:
    """How far two fp32 sums of `terms` products of this total magnitude may lie apart."""
    return 2 * (terms + 2) * 2.0**-24 * magnitude.astype(np.float64)


@pytest.fixture(scope="module")
def linears(programs, floats):
    """fp32 layers named p<N>_<K> and q<N>_<K> (rank 3, with a bias), packed ones s<i> and e<i>."""
    for n in {n for n, _ in PLAIN}:
        programs.parameter(f"b{n}", floats(n, seed=n))
    for n, k in PLAIN:
        for kind, rank in (("p", 2), ("q", 4)):
            weight = programs.parameter(f"{kind}{n}_{k}", floats(n, k, seed=k))
            types = dynamic(rank, k), dynamic(rank, n)
            add_linear(programs, f"{kind}{n}_{k}", weight, *types, n, bias=kind == "q")
    programs.parameter(f"b{N}", floats(N))
    for i, (spelling, k) in enumerate(PACKED):
        values = floats(N, k, seed=i) * np.float32(0.25)
        values[3] = 0
        panels = panel_unit(parse_spelling(spelling)) is not None
        weight = programs.parameter(f"s{i}", values, spelling, panels)
        types = dynamic(2, k), dynamic(2, N)
        add_linear(programs, f"s{i}", weight, *types, N, bias=i % 2 == 0, panels=panels)
    weight = programs.parameter("deep", floats(5, DEEP), "nf4<group=12>")
    add_linear(programs, "deep", weight, dynamic(2, DEEP), dynamic(2, 5), 5, bias=False)
    return programs


def check_linear(programs, name: str, x: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    weight = programs.decoded[name]
    magnitude = np.abs(x) @ np.abs(weight).T + (0 if bias is None else np.abs(bias))
    return programs.check(name, x, bound=rounding(weight.shape[1], magnitude))


@pytest.mark.parametrize("m", SIZES)
def test_plain_linear(linears, floats, m: int) -> None:
    for n, k in PLAIN:
        expected = check_linear(linears, f"p{n}_{k}", floats(m, k, seed=m), None)
        assert np.abs(expected).max() > 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (4, 1, 33), (3, 0, 2)])
def test_linear_with_batch_axes_and_bias(linears, floats, shape: tuple[int, ...]) -> None:
    for n, k in PLAIN[::3]:
        check_linear(linears, f"q{n}_{k}", floats(*shape, k), linears.decoded[f"b{n}"])


@pytest.mark.parametrize(("index", "case"), list(enumerate(PACKED)), ids=str)
def test_packed_linear(linears, floats, index: int, case: Case) -> None:
    bias = linears.decoded[f"b{N}"] if index % 2 == 0 else None
    for m in (1, 3, 4, 17, 33):
        x = floats(m, case[1], seed=m)
        expected = check_linear(linears, f"s{index}", x, bias)
        assert np.abs(expected).max() > 0


def test_rows_that_are_too_long_to_keep(linears, floats) -> None:
    for m in (1, 2, 4, 195):
        check_linear(linears, "deep", floats(m, DEEP, seed=m), None)

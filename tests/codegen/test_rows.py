"""Norms, embeddings and matrix products on the CPU against the interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.dialects.formats import available

LENGTHS = (1, 2, 3, 5, 7, 16, 31, 33, 200)
TABLE = "table=[0,0.5,1,1.5,2,3,4,6,0,-0.5,-1,-1.5,-2,-3,-4,-6]"
EMBEDDINGS = [
    None,
    *(f"lut4<{TABLE}>" if name == "lut4" else name for name in available()),
    "int4<group=48>", "int8<group=tensor>", "nf4<group=12>", "dint4<group=5>",
    "nestedfp16<view=fp8_e4m3>",
]  # fmt: skip
VOCABULARY = 23
PRODUCTS = [(1, 1), (3, 2), (7, 5), (16, 16), (33, 31), (5, 200), (200, 3), (8, 7)]
NORMS = [
    (kind, given)
    for kind, most in (("layer_norm", 2), ("rms_norm", 1))
    for given in range(most + 1)
]


def add_norm(programs, kind: str, given: int, shape: tuple[int, ...], axes: int) -> str:
    """A norm over the last `axes` of ?x`shape`, with the first `given` of weight and bias."""
    name = f"{kind}_{given}_{'_'.join(map(str, shape))}_{axes}"
    inner = "x".join(map(str, shape[len(shape) - axes :])) + "xf32"
    x, part = f"tensor<?x{'x'.join(map(str, shape))}xf32>", f"tensor<{inner}>"
    operands = ["%x", "%w", "%b"][: 1 + given]
    slots = 3 if kind == "layer_norm" else 2
    segments = ", ".join("1" if i <= given else "0" for i in range(slots))
    params = "\n".join(
        f'%{p} = "qcc.param"() {{symbol = "{p}_{inner}"}} : () -> {part}' for p in "wb"
    )
    body = f"""{params}
      %y = "qcc.{kind}"({", ".join(operands)}) {{epsilon = 1.0e-5 : f64, axes = {axes} : i64,
        operandSegmentSizes = array<i32: {segments}>}}
        : ({", ".join([x, *[part] * given])}) -> {x}
      return %y : {x}"""
    programs.function(name, f"(%x: {x}) -> {x}", body)
    for p, seed in (("w", 1), ("b", 2)):
        values = np.random.default_rng(seed).standard_normal(shape[len(shape) - axes :], np.float32)
        programs.parameter(f"{p}_{inner}", values)
    return name


def add_embedding(programs, floats, index: int, spelling: str | None) -> None:
    width = LENGTHS[4 + index % 5]
    table = programs.parameter(f"t{index}", floats(VOCABULARY, width, seed=index) / 4, spelling)
    y = f"tensor<?x?x{width}xf32>"
    body = f"""
      %t = "qcc.param"() {{symbol = "t{index}"}} : () -> {table}
      %y = "qcc.embedding"(%t, %i) : ({table}, tensor<?x?xi64>) -> {y}
      return %y : {y}"""
    programs.function(f"e{index}", f"(%i: tensor<?x?xi64>) -> {y}", body)


@pytest.fixture(scope="module")
def rows(programs, floats):
    programs.norms = {
        (kind, given, length): add_norm(programs, kind, given, (length,), 1)
        for kind, given in NORMS
        for length in LENGTHS
    }
    programs.wide_norms = {
        kind: add_norm(programs, kind, 1, (3, 5, 7), 2) for kind in ("layer_norm", "rms_norm")
    }
    for index, spelling in enumerate(EMBEDDINGS):
        add_embedding(programs, floats, index, spelling)
    for k, n in PRODUCTS:
        a, b, y = f"tensor<?x?x{k}xf32>", f"tensor<?x{k}x{n}xf32>", f"tensor<?x?x{n}xf32>"
        text = f'%y = "qcc.matmul"(%a, %b) : ({a}, {b}) -> {y}\n return %y : {y}'
        programs.function(f"m{k}_{n}", f"(%a: {a}, %b: {b}) -> {y}", text)
    free = "tensor<?x?x?xf32>"
    text = f'%y = "qcc.matmul"(%a, %b) : ({free}, {free}) -> {free}\n return %y : {free}'
    programs.function("any_sizes", f"(%a: {free}, %b: {free}) -> {free}", text)
    return programs


def norm_bound(x: np.ndarray, length: int, axes: tuple[int, ...]) -> np.ndarray:
    """
    An error of (L + 2) u in a sum of L squares halves under the root; so does a mean's.

    What the mean loses, (L + 2) u of the largest value, is divided by the deviation too.
    """
    wide = x.astype(np.float64)
    deviation = np.sqrt(wide.var(axis=axes, keepdims=True) + 1e-5)
    largest = np.abs(wide).max(axis=axes, keepdims=True)
    return 8 * (length + 4) * 2.0**-24 * (1 + largest / deviation) ** 2


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("kind", "given"), NORMS)
def test_norms(rows, floats, kind: str, given: int, length: int) -> None:
    name = rows.norms[kind, given, length]
    factor = np.abs(rows.decoded[f"w_{length}xf32"]).max() if given else 1.0
    for count in (1, 5, 67):
        x = floats(count, length, seed=count) * np.float32(3) + np.float32(1)
        rows.check(name, x, bound=norm_bound(x, length, (-1,)) * max(1.0, factor))


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_norm_over_two_axes(rows, floats, kind: str) -> None:
    factor = max(1.0, np.abs(rows.decoded["w_5x7xf32"]).max())
    x = floats(4, 3, 5, 7)
    expected = rows.check(rows.wide_norms[kind], x, bound=norm_bound(x, 35, (-2, -1)) * factor)
    assert expected.shape == (4, 3, 5, 7)


def test_a_constant_row_has_no_variance(rows) -> None:
    x = np.full((3, 33), 7, np.float32)
    for found in rows.run(rows.norms["layer_norm", 0, 33], x, rank=2).values():
        assert np.abs(found).max() < 1e-2


@pytest.mark.parametrize(("index", "spelling"), list(enumerate(EMBEDDINGS)), ids=str)
def test_embedding(rows, index: int, spelling: str | None) -> None:
    """Decoding is exact, so looking up is too."""
    every = np.arange(VOCABULARY, dtype=np.int64).reshape(1, -1)
    chosen = np.random.default_rng(index).integers(0, VOCABULARY, (3, 7))
    for indices in (every, chosen, every[:, :1], every[:0]):
        expected = rows.check(f"e{index}", indices, bound=np.zeros(()))
        assert expected.shape[:2] == indices.shape


@pytest.mark.parametrize(("k", "n"), PRODUCTS)
@pytest.mark.parametrize(("batch", "m"), [(1, 1), (3, 7), (2, 33), (5, 4)])
def test_matmul(rows, floats, batch: int, m: int, k: int, n: int) -> None:
    a, b = floats(batch, m, k, seed=1), floats(batch, k, n, seed=2)
    magnitude = np.abs(a).astype(np.float64) @ np.abs(b)
    bound = 2 * (k + 1) * 2.0**-24 * magnitude
    rows.check(f"m{k}_{n}", a, b, bound=bound)
    rows.check("any_sizes", a, b, bound=bound)

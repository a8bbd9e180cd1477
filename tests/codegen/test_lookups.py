"""Products of weights of few bits looked up in tables of x: the sums of byte products, exactly."""

from __future__ import annotations

import numpy as np
import pytest

from qcc.codegen.cpu import lookups
from qcc.codegen.cpu.features import host_features
from qcc.codegen.cpu.library import KernelLibrary
from qcc.codegen.cpu.panel_reader import PanelReader
from qcc.codegen.cpu.split_rows import split_rows
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import Format, format, from_definition

needs_tables = pytest.mark.skipif(
    not set(host_features()) >= lookups.NEEDED, reason="needs AVX-512 with VBMI and VNNI"
)
UNIT = 2.0**-24


def table(values: list[float], block: str = "64") -> Format:
    return from_definition(
        f"format few {{ element table values={values}; block size={block}; "
        "scale scale type=fp32 rule=absmax; }"
    )


# Weights, how x is rounded, n, k.
CASES = [
    (table([-1, 1]), "int8", 33, 320), (table([-1, 1], "channel"), "int8", 16, 301),
    (table([-3, 8], "32"), "int8<group=32>", 5, 256), (table([-127, 100]), "int8", 48, 256),
    (table([-1, 0, 1, 2], "channel"), "int8", 31, 364),
    (format("int3", group=32), "int8<group=64>", 16, 320), (format("sawb3"), "int8", 20, 516),
]  # fmt: skip
LAYER = """
  %w = "qcc.param"() {{symbol = "{name}", layout = "panel16"}} : () -> {weight}
  %y = "qcc.linear"({x}, %w) {{operandSegmentSizes = array<i32: 1, 1, 0>}}
    : (tensor<?x{k}xf32>, {weight}) -> tensor<?x{n}xf32>
  return %y : tensor<?x{n}xf32>
"""
ROUNDED = """
  %q = "qcc.quantize"(%x) : (tensor<?x{k}xf32>) -> !qcc.packed<tensor<?x{k}xf32>, "{rounding}">
  %d = "qcc.dequantize"(%q)
    : (!qcc.packed<tensor<?x{k}xf32>, "{rounding}">) -> tensor<?x{k}xf32>
"""


@pytest.fixture(scope="module")
def layers(make_programs, floats):
    """Each layer by tables and by products, on fp32 and on rounded x."""
    found = {}
    for way, most in {"tables": 3, "products": 0}.items():
        programs = make_programs(None)
        for i, (fmt, rounding, n, k) in enumerate(CASES):
            values = floats(n, k, seed=i) / 4
            weight = programs.parameter(f"c{i}", values, fmt.spelling, panels=True)
            signature = f"(%x: tensor<?x{k}xf32>) -> tensor<?x{n}xf32>"
            plain = LAYER.format(name=f"c{i}", weight=weight, n=n, k=k, x="%x")
            programs.function(f"plain{i}", signature, plain)
            text = ROUNDED.format(k=k, rounding=rounding)
            text += LAYER.format(name=f"c{i}", weight=weight, n=n, k=k, x="%d")
            programs.function(f"rounded{i}", signature, text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lookups, "MOST_BITS", most)
            assert programs.code
        found[way] = programs
    return found


@needs_tables
@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_rounded_rows_give_the_bits_of_products(layers, floats, index: int, m: int) -> None:
    x = floats(m, CASES[index][3], seed=m)
    x[0, 3] = 40
    expected = layers["products"].run(f"rounded{index}", x, rank=2)[1]
    assert np.abs(expected).max() > 0
    for result in layers["tables"].run(f"rounded{index}", x, rank=2).values():
        np.testing.assert_array_equal(result, expected)


@needs_tables
@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_floats_within_the_bound(layers, floats, index: int, m: int) -> None:
    """The bound of split_rows.py; with a block of outliers, which is computed in floats."""
    k = CASES[index][3]
    x = floats(m, k, seed=m)
    x[0, 64:128] *= np.float32(10) ** np.random.default_rng(1).integers(-20, 20, 64)
    weight = layers["tables"].decoded[f"c{index}"].astype(np.float64)
    exact = x.astype(np.float64) @ weight.T
    magnitude = np.abs(x).astype(np.float64) @ np.abs(weight).T
    bound = (k + 3 * k / 16 + 20) * UNIT * magnitude
    results = layers["tables"].run(f"plain{index}", x, rank=2)
    for result in results.values():
        np.testing.assert_array_equal(result, results[1])
    assert (np.abs(results[1] - exact) <= bound).all()


def reader(fmt: Format, k: int = 256, features: frozenset[str] = lookups.NEEDED):
    with make_context() as context, ir.Location.unknown(context):
        library = KernelLibrary(ir.Module.create(), features)
        weight = PanelReader(library, fmt, 16, k)
        rows = split_rows(weight, 1)
        assert rows is not None
        return lookups.lookups(library, weight, rows)


def test_which_layers_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = table([-1, 1])
    found = reader(binary)
    assert found is not None
    # Four numbers of 24 bits, in digits of seven.
    assert found.pieces == 4
    assert len(found.halves) == 2
    assert reader(binary, features=frozenset({"avx2"})) is None
    assert reader(table([-1, 0, 1, 1])) is None
    monkeypatch.setattr(lookups, "MOST_BITS", 3)
    assert reader(table([-1, 0, 1, 1])) is not None
    assert reader(format("int2", group=32, symmetric=False)) is None
    assert reader(format("int3", group=32)) is not None
    # The two planes of three bits do not add up to these.
    assert reader(table([0, 1, 2, 3, 4, 5, 6, 9])) is None
    # Four products of 24 bits with 127 do not fit.
    assert reader(table([-127, 100])) is None

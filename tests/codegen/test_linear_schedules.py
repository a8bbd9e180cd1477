"""Every legal schedule computes the same layer; illegal ones are refused with reasons."""

from __future__ import annotations

import re

import numpy as np
import pytest

from qcc.codegen.cpu.convert_qcc_to_kernels import convert_qcc_to_kernels
from qcc.codegen.cpu.features import host_features
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.cpu.schedule import LinearProblem, LinearSchedule, illegal
from qcc.dialects.errors import UsageError
from qcc.dialects.formats import parse_spelling

ROWS = (0, 1, 5, 45)
N, K = 83, 96
INTEGERS = {
    "fresh": LinearSchedule(8, 1, 192, 2, 64),
    "kept": LinearSchedule(4, 1, 8, 4, 64, keep=True),
    "kept by two panels": LinearSchedule(2, 2, 6, 6, 64, keep=True),
    "two rows": LinearSchedule(2, 1, 6, 2, 64),
    "two rows, kept": LinearSchedule(2, 1, 4, 2, 64, keep=True),
}
FLOATS = {
    "one part": LinearSchedule(8, 2, 192, 2, 96),
    "parts and a rest": LinearSchedule(2, 2, 4, 4, 64),
    "small parts": LinearSchedule(5, 1, 20, 3, 32),
}
# A symmetric format, one with zero points of some codes, one with a scale for each sign.
MEETING = ("int4<group=32>", "dint4<group=32>", "amxfp4", "int8")
FEATURES = {
    "host": None,
    "avx2": [name for name in host_features() if not name.startswith("avx512")],
}


def named(symbol: str, schedule: str) -> str:
    return re.sub(r"\W", "_", f"{symbol} {schedule}")


def possible(
    schedules: dict[str, LinearSchedule], problem: LinearProblem, features: str
) -> dict[str, LinearSchedule]:
    """Those that fit the registers."""
    have = frozenset(FEATURES[features] or host_features())
    return {name: s for name, s in schedules.items() if not list(illegal(problem, s, have))}


def text(name: str, weight: str, schedule: LinearSchedule, rounding: str | None, layout: str):
    """The attribute as a user would write it."""
    given = str(schedule.attribute())
    x, packed = f"tensor<?x{K}xf32>", f'!qcc.packed<tensor<?x{K}xf32>, "{rounding}">'
    rounded = f"""
      %q = "qcc.quantize"(%x) : ({x}) -> {packed}
      %d = "qcc.dequantize"(%q) : ({packed}) -> {x}"""
    source = "x" if rounding is None else "d"
    return (
        f"(%x: {x}) -> tensor<?x{N}xf32>",
        f"""
      %w = "qcc.param"() {{symbol = "{name}"{layout}}} : () -> {weight}
      {rounded if rounding else ""}
      %y = "qcc.linear"(%{source}, %w) {{operandSegmentSizes = array<i32: 1, 1, 0>,
        schedule = {given}}} : ({x}, {weight}) -> tensor<?x{N}xf32>
      return %y : tensor<?x{N}xf32>""",
    )


@pytest.fixture(scope="module", params=FEATURES)
def layers(request, make_programs, floats):
    programs = make_programs(FEATURES[request.param])
    panels = ', layout = "panel16"'
    with make_context(), ir.Location.unknown():
        for spelling in MEETING:
            weight = programs.parameter(spelling, floats(N, K), spelling, panels=True)
            problem = LinearProblem(N, K, spelling, integers=True)
            for name, schedule in possible(INTEGERS, problem, request.param).items():
                made = text(spelling, weight, schedule, "int8", panels)
                programs.function(named(spelling, name), *made)
        for spelling in ("nf4<group=32>", None):
            symbol = spelling or "plain"
            weight = programs.parameter(symbol, floats(N, K), spelling, panels=bool(spelling))
            problem = LinearProblem(N, K, spelling or "fp32")
            for name, schedule in possible(FLOATS, problem, request.param).items():
                made = text(symbol, weight, schedule, None, panels if spelling else "")
                programs.function(named(symbol, name), *made)
    return programs


@pytest.mark.parametrize("m", ROWS)
@pytest.mark.parametrize("spelling", MEETING)
def test_integers_give_the_same_bits(layers, floats, spelling: str, m: int) -> None:
    x = floats(m, K, seed=m)
    rounded = parse_spelling("int8").quantize(x).dequantize()
    magnitude = np.abs(rounded).astype(np.float64) @ np.abs(layers.decoded[spelling]).T
    results = []
    functions = [named(spelling, name) for name in INTEGERS]
    for function in [each for each in functions if each in layers.functions]:
        layers.check(function, x, bound=2 * (K + 2) * 2.0**-24 * magnitude)
        results.append(layers.run(function, x, rank=2)[1])
    assert len(results) > 1
    for found in results[1:]:
        np.testing.assert_array_equal(found, results[0])


@pytest.mark.parametrize("m", ROWS)
@pytest.mark.parametrize("symbol", ["nf4<group=32>", "plain"])
@pytest.mark.parametrize("name", FLOATS)
def test_floats_err_within_the_bound(layers, floats, symbol: str, name: str, m: int) -> None:
    if named(symbol, name) not in layers.functions:
        assert name == "one part", "the only one that needs more than 16 registers"
        return
    x = floats(m, K, seed=m)
    magnitude = np.abs(x).astype(np.float64) @ np.abs(layers.decoded[symbol]).T
    layers.check(named(symbol, name), x, bound=2 * (K + 2) * 2.0**-24 * magnitude)


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("{rows = 8 : i64}", "a schedule has rows, panels"),
        (str, "task_rows is 7, not a multiple of rows, 2"),
    ],
)
def test_what_cannot_be_built_is_refused(schedule, why: str) -> None:
    with make_context(), ir.Location.unknown():
        given = schedule
        if schedule is str:
            given = str(LinearSchedule(2, 1, 7, 1, 64).attribute())
        module = ir.Module.parse(f"""
        func.func @main(%x: tensor<9x64xf32>, %w: tensor<32x64xf32>) -> tensor<9x32xf32> {{
          %y = "qcc.linear"(%x, %w) {{operandSegmentSizes = array<i32: 1, 1, 0>,
            schedule = {given}}} : (tensor<9x64xf32>, tensor<32x64xf32>) -> tensor<9x32xf32>
          return %y : tensor<9x32xf32>
        }}""")
        with pytest.raises(UsageError, match=why) as refused:
            convert_qcc_to_kernels(module)
    assert refused.value.code == "cpu-schedule"


def test_those_above_are_legal() -> None:
    narrow: frozenset[str] = frozenset()
    for spelling in MEETING:
        problem = LinearProblem(N, K, spelling, integers=True)
        for name, schedule in INTEGERS.items():
            reasons = list(illegal(problem, schedule, frozenset({"avx512f"})))
            assert not reasons, name
    for schedule in FLOATS.values():
        assert not list(illegal(LinearProblem(N, K, "fp32"), schedule, frozenset({"avx512f"})))
    wide = list(illegal(LinearProblem(N, K, "fp32"), FLOATS["one part"], narrow))
    assert wide == ["a tile needs 38 registers, of which there are 16"]

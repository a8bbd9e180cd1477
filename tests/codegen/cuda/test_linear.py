"""
Emitted linear layers, every format of at most eight bits, run by the emulator against NumPy.

One translation unit for each type of activations; every kernel runs on 1 to 65 tokens, in all
modes of the emulator. K and N are odd wherever the format allows it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from qcc.codegen.cuda.emit import emit_source
from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.codegen.cuda.emulator.launch import ALL_MODES
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.formats import format
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.problem import INSTRUCTION_OF, LinearProblem
from qcc.dialects.tile.schedule import Schedule, illegal
from qcc.passes.linear_kernel import linear_kernel
from tests.codegen.cuda.linear_cases import (
    DTYPES,
    Built,
    built,
    case,
    check,
    fails,
    launched,
    target_of,
)
from tests.codegen.cuda.own_formats import OWN

USER_TABLE = "lut4<table=[0,1,2,3.25,4,5,6,7.5,-1,-2,-3,-4,-5,-6,-7.5,-9]>"
FORMATS = [
    "int2", "int3<group=64>", "int4", "int4<group=32>", "int5<group=16>", "int6<group=48>", "int7",
    "int8", "int8<group=tensor>", "int4<group=32,symmetric=false>", "int8<symmetric=false>",
    "uint2<group=16>", "uint4<group=tensor>", "uint4<symmetric=true>", "uint8", "dint3<group=16>",
    "dint4", "dint4<group=64>", "dint4<symmetric=true,group=32>", "nf4<group=64>", USER_TABLE,
    "mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2", "mxint8", "nvfp4",
    "nvfp4<two_level=true>", "amxfp4", "amxfp4<scale=e4m3>", "amxfp4<scale=pot>", "fp8_e4m3",
    "int4<group=8>", "int3<group=40>", "uint5<group=7>", "int4<group=32,scale=fp16>",
    "nf4<scale=bf16>", "dint4<group=tensor,scale=fp16>", "int8<scale=fp16>",
    "fp8_e5m2<group=channel>", "fp8_152", "sawb2", "sawb3", "sawb4<group=channel>", "sawb5",
    "sawb7", "sawb8", "pact4", "fp16", *OWN.values(),
]  # fmt: skip
INTEGERS = [
    "int2", "int3<group=64>", "int4", "int4<group=32>", "int8", "int8<group=128>", "dint4",
    "dint4<group=64>", "dint3<group=32>", "dint4<symmetric=true>", "uint4<group=tensor>",
    "int4<group=32,symmetric=false>", "mxint8", "mxfp4", "sawb4", "pact4", "int5", "int6", "int7",
    "nvfp4", "int8<group=20>", "int4<group=32,scale=bf16>", "int8<scale=fp16>",
    OWN["rows_e8m0"], OWN["tensor_e8m0"],
]  # fmt: skip
SMALL_FLOATS = ["fp8_e4m3", "fp8_e4m3<group=64>", "mxfp4", "mxfp6_e3m2", "dint4<symmetric=true>"]
# Channels, tokens, depth, warps along them, stages, splits: each takes any number of tokens.
SHAPES = (
    (64, 16, 128, 1, 1, 2, 3, 1), (32, 8, 256, 1, 1, 4, 2, 2), (64, 32, 128, 2, 2, 1, 2, 1),
    (16, 16, 128, 1, 2, 1, 4, 3), (48, 8, 128, 3, 1, 1, 3, 1), (64, 24, 128, 2, 1, 2, 2, 2),
)  # fmt: skip


def columns(spelling: str) -> int:
    """An odd K, or the nearest thing that divides into groups."""
    fmt = format(spelling)
    size = fmt.block_size
    if not isinstance(size, int) or fmt.block.ragged:
        return 391
    return size * (3 if size > 64 else 7)


def problems(activation: str, spellings: list[str]) -> list[tuple[LinearProblem, Schedule]]:
    made = []
    result = "bf16" if activation == "bf16" else "f16"
    for index, (spelling, shape) in enumerate(zip(spellings, cycle(SHAPES), strict=False)):
        spelling = "bf16" if (spelling, activation) == ("fp16", "bf16") else spelling
        bias = (None, "f32", result)[index % 3]
        problem = LinearProblem(
            49 - index % 2, columns(spelling), 16, spelling, activation, result, bias
        )
        schedule = Schedule(INSTRUCTION_OF[activation], *shape)
        assert not list(illegal(problem, schedule, machine(target_of(activation))))
        made.append((problem, schedule))
    return made


@pytest.fixture(scope="module")
def f16(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(problems("f16", FORMATS), tmp_path_factory.mktemp("f16"))


@pytest.fixture(scope="module")
def bf16(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(problems("bf16", FORMATS[::3]), tmp_path_factory.mktemp("bf16"))


@pytest.fixture(scope="module")
def i8(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(problems("i8", INTEGERS), tmp_path_factory.mktemp("i8"))


@pytest.fixture(scope="module")
def f8(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(problems("f8E4M3FN", SMALL_FLOATS), tmp_path_factory.mktemp("f8"))


@pytest.mark.parametrize("spelling", FORMATS)
def test_f16(f16: Built, spelling: str) -> None:
    check(f16, spelling)


@pytest.mark.parametrize("spelling", FORMATS[::3])
def test_bf16(bf16: Built, spelling: str) -> None:
    check(bf16, "bf16" if spelling == "fp16" else spelling)


@pytest.mark.parametrize("spelling", INTEGERS)
def test_i8(i8: Built, spelling: str) -> None:
    check(i8, spelling)


@pytest.mark.parametrize("spelling", SMALL_FLOATS)
def test_fp8(f8: Built, spelling: str) -> None:
    check(f8, spelling)


@pytest.mark.parametrize("spelling", ["int8", "int4", "dint4", "dint4<symmetric=true>"])
def test_integers_are_exact(i8: Built, spelling: str) -> None:
    """One exact sum of integers, then the epilogue's three roundings in its order."""
    problem, launch = i8.problems[spelling], i8.launches[spelling]
    given = case(problem, launch, 7)
    fmt, parts = problem.format, given.parts
    steps = fmt.decode_rows(parts | {"scale": np.ones_like(parts["scale"])}, problem.k)
    factor = problem.program.factor
    sums = given.arguments["x"].astype(np.int64) @ np.rint(steps / factor).astype(np.int64).T
    value = sums.astype(np.float32)
    value = value * np.float32(factor) * parts["scale"].reshape(1, -1)
    value = value * given.arguments["x_scale"][:, None]
    if problem.bias is not None:
        value = value + given.arguments["bias"].astype(np.float32)
    wanted = value.astype(DTYPES[problem.result])
    for mode in ALL_MODES:
        np.testing.assert_array_equal(launched(i8, launch, given, mode), wanted)


def test_default_schedules(tmp_path: Path) -> None:
    """One for each class of tokens, with blocks that share K, on their own numbers of tokens."""
    small = LinearProblem(100, 1037, 1, "int4", bias="f16")
    cases = []
    for tokens, k, weight in ((1, 2051, "int4"), (16, 1037, "mxfp4"), (40, 1037, "int8"),
                              (130, 261, "uint4")):  # fmt: skip
        problem = replace(small, tokens=tokens, k=k, weight=weight)
        cases.append((problem, default_schedule(problem)))
    assert cases[0][1].splits > 1
    made = built(cases, tmp_path)
    for problem, _ in cases:
        launch = made.launches[problem.weight]
        given = case(problem, launch, problem.tokens)
        for mode in ALL_MODES:
            result = launched(made, launch, given, mode).astype(np.float64)
            assert (np.abs(result - given.wanted) <= given.bound).all()


@pytest.mark.parametrize("tokens", [1, 13, 16, 40, 64, 127, 5000])
@pytest.mark.parametrize("n", [1, 17, 4096, 11008])
@pytest.mark.parametrize("k", [1, 31, 4096])
def test_every_shape_has_a_legal_schedule(tokens: int, n: int, k: int) -> None:
    for spelling in ("int4", "int3", "mxfp6_e2m3", "dint4", "amxfp4", "fp16", "int8"):
        problem = LinearProblem(n, k, tokens, spelling)
        for target in ("sm_80", "sm_86", "sm_90a"):
            schedule = default_schedule(problem, target)
            assert not list(illegal(problem, schedule, machine(target)))


@pytest.mark.parametrize(
    ("weight", "activation", "reason"),
    [
        ("amxfp4", "i8", "16-bit activations"),
        ("nf4", "i8", "no exact form in i8"),
    ],
)
def test_refusals_say_why(weight: str, activation: str, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        default_schedule(LinearProblem(64, 640, 1, weight, activation))


FAULTS = {
    "no wait": ("    wait_copies<1>();", "    wait_copies<2>();"),
    "no barrier": ("    sync_threads();  // everybody's", "    // everybody's"),
    "no barrier in the epilogue": ("sync_threads();  // shared memory is free", "// not free"),
    "registers in another order": ("  a[0][1] = t6;", "  a[0][1] = t3;"),
    "a swizzle of the writer alone": ("(x_column ^ ((x_row + 4 * turn) & 7) * 8)", "x_column"),
    "a copy beyond the tokens": (" < tokens ? 16 : 0)", " < 99 ? 16 : 0)"),
}


def test_planted_faults_are_found(tmp_path: Path) -> None:
    """Each in some mode: by the emulator's checks, or in the result."""
    problem = LinearProblem(64, 512, 7, "int4<group=32>")
    schedule = Schedule(INSTRUCTION_OF["f16"], 64, 16, 128, 1, 1, 2, 3)
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            launch = linear_kernel(problem, schedule, "linear_0")
        source = emit_source(list(module.body.operations))
    texts = []
    for index, (old, new) in enumerate(FAULTS.values()):
        assert old in source
        text = source.replace(old, new).replace("linear_0", f"linear_{index}")
        texts.append(text.replace("decode_affine4_f16", f"decode_{index}"))
    module_ = build_emulated("\n".join(texts), tmp_path)
    for index, name in enumerate(FAULTS):
        faulty = Built({}, {}, module_)
        given = case(problem, launch, 7)
        assert fails(faulty, replace(launch, kernel=f"linear_{index}"), given), name

"""
Linear layers whose activations are integers of four bits, signed or not: emulated against NumPy.

Sums of integers are exact, so results equal those of whole numbers and the epilogue's roundings.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcc.codegen.cuda.emit import emit_source
from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.codegen.cuda.emulator.launch import Mode
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.hardware import MACHINES, is_native, machine
from qcc.dialects.tile.integer_activations import IntegerScale
from qcc.dialects.tile.problem import LinearProblem
from qcc.dialects.tile.reference import run_kernel
from qcc.dialects.tile.schedule import Schedule, illegal
from qcc.passes.linear_kernel import linear_kernel
from tests.codegen.cuda.linear_cases import Built, case, check, fails, launched

TENSOR = IntegerScale("inverse_scale", tensor=True, divide=True)
SIGNED = LinearProblem(49, 391, 16, "int4", "i4", "f32")
UNSIGNED = replace(SIGNED, activation="ui4", x_scale=TENSOR)
PROBLEMS = {
    "int4": SIGNED,
    "int2": replace(SIGNED, weight="int2", k=130, bias="f32"),
    "int3": replace(SIGNED, weight="int3", k=1, n=1),
    "int4<group=128>": replace(SIGNED, weight="int4<group=128>", k=384),
    "uint4<symmetric=true>": replace(UNSIGNED, weight="uint4<symmetric=true>", n=16, k=67),
    "int4<group=64>": replace(UNSIGNED, weight="int4<group=64>", k=192, bias="f32"),
}
SHAPES = {
    "int4": (64, 16, 256, 1, 1, 2, 3, 1), "int2": (32, 8, 256, 1, 1, 4, 2, 2),
    "int3": (16, 8, 256, 1, 1, 1, 2, 1), "int4<group=128>": (64, 32, 256, 2, 2, 1, 2, 1),
    "uint4<symmetric=true>": (16, 16, 256, 1, 2, 1, 4, 3),
}  # fmt: skip
"""Others have the default for 1 token, which streams."""
FAULTY = "linear_faulty"


def schedule_of(problem: LinearProblem) -> Schedule:
    shape = SHAPES.get(problem.weight)
    if shape is None:
        return default_schedule(replace(problem, tokens=1))
    return Schedule(problem.instruction, *shape)


def faulty(source: str) -> str:
    """The first kernel under another name, with registers of its left operand exchanged."""
    assert source.count("a[0][1] = w2;") == 1
    source = source.replace("a[0][1] = w2;", "a[0][1] = w1;").replace("linear_0", FAULTY)
    return source.replace("decode_stored4_i4", "decode_faulty")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        launches = {}
        with ir.InsertionPoint(module.body):
            for index, (name, problem) in enumerate(PROBLEMS.items()):
                schedule = schedule_of(problem)
                assert not list(illegal(problem, schedule, machine("sm_80")))
                launches[name] = linear_kernel(problem, schedule, f"linear_{index}")
        assert module.operation.verify()
        source = emit_source([*module.body.operations])
        source += faulty(emit_source([next(iter(module.body.operations))]))
    return Built(PROBLEMS, launches, build_emulated(source, tmp_path_factory.mktemp("nibbles")))


@pytest.mark.parametrize("name", PROBLEMS)
def test_products_of_nibbles(built: Built, name: str) -> None:
    streams = built.launches[name].schedule.streams
    check(built, name, (1,) if streams else (1, 17))


@pytest.mark.parametrize("name", ["int4", "int2", "uint4<symmetric=true>"])
def test_sums_are_exact(built: Built, name: str) -> None:
    problem, launch = built.problems[name], built.launches[name]
    given = case(problem, launch, 7)
    fmt, parts, factor = problem.format, given.parts, problem.program.factor
    ones = {"scale": np.ones_like(parts["scale"])}
    steps = np.rint(fmt.decode_rows(parts | ones, problem.k) / factor).astype(np.int64)
    pairs = given.arguments["x"]
    nibbles = np.stack([pairs & 15, pairs >> 4], -1).reshape(len(pairs), -1)[:, : problem.k]
    x = nibbles.astype(np.int64)
    x = np.where(x > 7, x - 16, x) if problem.activation == "i4" else x
    value = (x @ steps.T).astype(np.float32) * np.float32(factor) * parts["scale"].reshape(1, -1)
    scale = given.arguments["x_scale"][:, None]
    token_scale = problem.token_scale
    assert token_scale is not None
    value = value / scale if token_scale.divide else value * scale
    wanted = value if problem.bias is None else value + given.arguments["bias"]
    np.testing.assert_array_equal(launched(built, launch, given, Mode()), wanted)


@pytest.mark.parametrize("name", ["int4", "uint4<symmetric=true>", "int4<group=64>"])
def test_reference(name: str) -> None:
    """The NumPy meaning of the same kernels keeps the same bound."""
    problem = PROBLEMS[name]
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            launch = linear_kernel(problem, schedule_of(problem), "linear")
        given = case(problem, launch, 1)
        kernel = next(iter(module.body.operations))
        run_kernel(kernel, given.arguments | {"tokens": 1}, launch.grid(1))
    assert (abs(given.arguments["y"] - given.wanted) <= given.bound).all()


def test_only_silicon_with_nibbles_has_kernels_of_them() -> None:
    assert {each for each in MACHINES if is_native(each, SIGNED.instruction)} == {
        "sm_80", "sm_86", "sm_89",
    }  # fmt: skip
    with pytest.raises(UnsupportedError):
        default_schedule(SIGNED, "sm_90a")
    with pytest.raises(UnsupportedError, match="no steps of 64 columns"):
        default_schedule(replace(SIGNED, weight="int4<group=32>", k=384))


def test_a_fragment_in_another_order_is_found(built: Built) -> None:
    """Registers of the left operand exchanged: the result is wrong."""
    launch = replace(built.launches["int4"], kernel=FAULTY)
    assert fails(built, launch, case(SIGNED, launch, 7))

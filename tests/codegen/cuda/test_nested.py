"""NestedFP: halves and their fp8 view from one stored weight, emulated against NumPy and built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcc.codegen.cuda.compilers import find_compiler
from qcc.codegen.cuda.emit import emit_source
from qcc.codegen.cuda.emulator.launch import ALL_MODES
from qcc.codegen.cuda.resources import Resources, resources
from qcc.codegen.cuda.toolchain import Job, build_all
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.integer_activations import OF_TENSOR, OF_TOKENS
from qcc.dialects.tile.problem import LinearProblem
from qcc.dialects.tile.schedule import Schedule
from qcc.passes.linear_kernel import linear_kernel
from tests.codegen.cuda.linear_cases import Built, built, case, check, launched

HALVES, BYTES = "nestedfp16", "nestedfp16<view=fp8_e4m3>"
N, K = 83, 336
WARPS = (64, 16, 128, 1, 1, 2, 2, 2)
STREAMS = (32, 4, 128, 1, 1, 2, 2, 2)
GROUPS = (64, 32, 128, 4, 1, 1, 2, 2)
SCALES = {"mma": None, "streams": OF_TENSOR, "wgmma": OF_TOKENS}
KINDS = (("mma", "sm_89", WARPS), ("streams", "sm_89", STREAMS), ("wgmma", "sm_90a", GROUPS))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """By kind of instruction: one kernel that reads both planes, one that reads the upper."""
    folder = tmp_path_factory.mktemp("nested")
    made = {}
    for kind, target, shape in KINDS:
        names = ("wgmma.f16", "wgmma.e4m3")
        if kind != "wgmma":
            names = ("mma.m16n8k16.f16", "mma.m16n8k32.e4m3")
        schedules = [Schedule(name, *shape, streams=kind == "streams") for name in names]
        problems = [
            LinearProblem(N, K, 16, HALVES, bias="f16"),
            LinearProblem(N, K, 16, BYTES, "f8E4M3FN", bias="f16", x_scale=SCALES[kind]),
        ]
        made[kind] = built(list(zip(problems, schedules, strict=True)), folder, target)
    return made


@pytest.mark.parametrize("kind", ["mma", "streams", "wgmma"])
@pytest.mark.parametrize("weight", [HALVES, BYTES])
def test_modes(kernels: dict[str, Built], kind: str, weight: str) -> None:
    check(kernels[kind], weight, (33,))


@pytest.mark.parametrize("kind", ["mma", "streams", "wgmma"])
def test_both_modes_read_one_weight(kernels: dict[str, Built], kind: str) -> None:
    """The launch in fp8 mode is given the upper plane of the halves' launch, and no other."""
    made = kernels[kind]
    halves = case(made.problems[HALVES], made.launches[HALVES], 7)
    view = case(made.problems[BYTES], made.launches[BYTES], 7)
    np.testing.assert_array_equal(halves.arguments["upper"], view.arguments["upper"])
    assert "lower" not in made.launches[BYTES].arguments
    view.arguments["upper"] = halves.arguments["upper"]
    for mode in ALL_MODES:
        result = launched(made, made.launches[BYTES], view, mode).astype(np.float64)
        assert (np.abs(result - view.wanted) <= view.bound).all()


def test_halves_are_merged_for_halves_alone() -> None:
    with pytest.raises(UnsupportedError, match="their view is fp8_e4m3"):
        default_schedule(LinearProblem(64, 64, 1, HALVES, "bf16", "bf16"))


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Resources]:
    """Of default schedules; by mode, machine and tokens."""
    jobs, folder = [], tmp_path_factory.mktemp("cubins")
    for target, tokens in (("sm_80", 1), ("sm_90a", 2048)):
        problems = {"halves": LinearProblem(4096, 4096, tokens, HALVES)}
        if target == "sm_90a" and tokens > 1:
            problems["bytes"] = LinearProblem(4096, 4096, tokens, BYTES, "f8E4M3FN")
        with make_context(), ir.Location.unknown():
            module = ir.Module.create()
            with ir.InsertionPoint(module.body):
                for name, problem in problems.items():
                    schedule = default_schedule(problem, target)
                    linear_kernel(problem, schedule, f"{name}_{target}_{tokens}", target)
            source = emit_source(list(module.body.operations))
        jobs.append(Job(f"nested_{tokens}", source, target))
    cubins = build_all(jobs, Path(folder), compiler=find_compiler())
    return {name: each for cubin in cubins for name, each in resources(cubin).items()}


def test_no_mode_spills(costs: dict[str, Resources]) -> None:
    assert len(costs) == 3
    for name, cost in costs.items():
        assert not cost.spills, name
        assert not cost.warnings, name
    assert costs["halves_sm_90a_2048"].count("HGMMA") > 0
    assert costs["bytes_sm_90a_2048"].count("QGMMA") > 0


@pytest.mark.parametrize("name", ["halves_sm_90a_2048"])
def test_merging_takes_four_instructions_for_two_halves(
    costs: dict[str, Resources], name: str
) -> None:
    """Ten permutations and some eleven more for a step of 8 halves; products are one for them."""
    cost = costs[name]
    assert cost.count("PRMT", "LOP3", "SHF", "IADD3", "VIADD") < 60 * cost.count("HGMMA")

"""Linear layers by warp groups (sm_90a): under the emulator against NumPy, and in SASS."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from qcc.codegen.cuda.emit import emit_source
from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats import format
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.problem import WARP_GROUP_INSTRUCTION_OF, LinearProblem
from qcc.dialects.tile.schedule import Schedule, illegal
from qcc.passes.linear_kernel import linear_kernel
from tests.codegen.cuda.linear_cases import Built, built, case, check, fails

F16 = ["int4", "int3<group=64>", "int4<group=32,symmetric=false>", "nf4<group=64>", "amxfp4",
       "mxfp6_e2m3", "int5<group=96>", "fp16", "uint4<group=tensor>"]  # fmt: skip
BF16 = ["int4<group=32>", "int8"]
I8 = ["int8", "dint4<group=64>", "int4<group=32>", "mxfp4"]
F8 = ["fp8_e4m3", "mxfp4"]
# Warp groups, tokens, packets of K in a step, stages, splits
SHAPES = ((2, 16, 1, 2, 1), (1, 32, 2, 3, 2), (2, 8, 2, 2, 3), (1, 64, 1, 4, 1))


def cases(activation: str, spellings: list[str]) -> list[tuple[LinearProblem, Schedule]]:
    made = []
    for index, (spelling, shape) in enumerate(zip(spellings, cycle(SHAPES), strict=False)):
        groups, tokens, packets, stages, splits = shape
        depth = 64 * packets if activation in ("f16", "bf16") else 128
        fmt, result = format(spelling), "bf16" if activation == "bf16" else "f16"
        odd = fmt.block.ragged and (fmt.block_size in (None, 32) or fmt.block_size == "channel")
        problem = LinearProblem(
            64 * groups + (0, 19, 16)[index % 3], 384 if not odd else 304 if depth == 128 else 328,
            tokens, spelling, activation, result, (None, "f32", result)[index % 3],
        )  # fmt: skip
        schedule = Schedule(
            WARP_GROUP_INSTRUCTION_OF[activation], 64 * groups, tokens, depth, 4 * groups, 1, 1,
            stages, splits,
        )  # fmt: skip
        assert list(illegal(problem, schedule, machine("sm_90a"))) == []
        made.append((problem, schedule))
    return made


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """By type of activations."""
    folder = tmp_path_factory.mktemp("groups")
    given = {"f16": F16, "bf16": BF16, "i8": I8, "f8E4M3FN": F8}
    return {kind: built(cases(kind, each), folder, "sm_90a") for kind, each in given.items()}


@pytest.mark.parametrize("spelling", F16)
def test_f16(kernels: dict[str, Built], spelling: str) -> None:
    check(kernels["f16"], spelling, (33,))


@pytest.mark.parametrize("spelling", BF16)
def test_bf16(kernels: dict[str, Built], spelling: str) -> None:
    check(kernels["bf16"], spelling, (33,))


@pytest.mark.parametrize("spelling", I8)
def test_i8(kernels: dict[str, Built], spelling: str) -> None:
    check(kernels["i8"], spelling, (33,))


@pytest.mark.parametrize("spelling", F8)
def test_fp8(kernels: dict[str, Built], spelling: str) -> None:
    check(kernels["f8E4M3FN"], spelling, (33,))


REFUSED = {
    "begin on no multiple of 16": {"k": 387},
    "pad no groups": {"weight": "int4<group=40>"},
    "convert nothing": {"source": "f32"},
    "fewer than the 128": {"n": 100},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_copies_cannot_bring_is_refused(reason: str) -> None:
    schedule = Schedule("wgmma.f16", 128, 32, 64, 8, 1, 1, 2)
    problem = replace(LinearProblem(128, 384, 32, "int4"), **REFUSED[reason])
    assert reason in "; ".join(illegal(problem, schedule, machine("sm_90a")))


FAULTS = {
    "stages are not awaited": ("mbarrier_wait(full.at(stage), phase);", ""),
    "stages are freed early": ("sync_warp();  // all lanes have read the stage\n", ""),
    "products are not awaited": ("wgmma_wait<0>();", ""),
    "a group is added to the one before": ("unit > 0);", "1);"),
    "another box": ("load_tensor_2d(x_tile(stage).at(0), x, full.at(stage), k, m0);",
                    "load_tensor_2d(x_tile(stage).at(0), x, full.at(stage), k, 0);"),
}  # fmt: skip


def test_planted_faults_are_found(tmp_path: Path) -> None:
    """Each in some mode: by the emulator's checks, or in the result."""
    problem = LinearProblem(64, 384, 16, "int4<group=64>")
    schedule = Schedule("wgmma.f16", 64, 16, 64, 4, 1, 1, 2)
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            launch = linear_kernel(problem, schedule, "linear_0", "sm_90a")
        source = emit_source(list(module.body.operations))
    texts = []
    for index, (old, new) in enumerate(FAULTS.values()):
        assert old in source
        text = source.replace(old, new).replace("linear_0", f"linear_{index}")
        texts.append(text.replace("decode_affine4_f16", f"decode_{index}"))
    made = Built({}, {}, build_emulated("\n".join(texts), tmp_path))
    given = case(problem, launch, 33)
    for index, name in enumerate(FAULTS):
        assert fails(made, replace(launch, kernel=f"linear_{index}"), given), name

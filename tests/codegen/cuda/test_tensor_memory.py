"""
Linear layers by products in tensor memory (sm_100a): emulated against NumPy, and in SASS.

Blocks of both sides with their scales, a scale for each sign included; plain operands; groups whose
sums are rescaled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qcc.codegen.cuda.emit import emit_source
from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.problem import LinearProblem
from qcc.dialects.tile.schedule import Schedule, illegal
from qcc.passes.linear_kernel import linear_kernel
from tests.codegen.cuda.linear_cases import Built, built, case, check, fails

TARGET = "sm_100a"
POWERS, BYTES = "amxfp4<scale=pot>", "amxfp4<scale=e4m3,two_level=false>"
# Weights, activations, channels, K, tokens of a block, depth, stages, splits
BLOCKS = [
    ("mxfp4", "mxfp4", 128, 544, 16, 256, 2, 1),
    (POWERS, POWERS, 49, 288, 32, 256, 2, 1),
    ("nvfp4", "nvfp4", 150, 800, 64, 256, 3, 2),
    ("nvfp4<two_level=true>", BYTES, 16, 352, 16, 256, 2, 1),
    ("mxfp8_e4m3", "mxfp8_e4m3", 128, 400, 16, 128, 2, 1),
    ("mxfp6_e2m3", "mxfp8_e4m3", 1, 144, 32, 128, 3, 1),
]
# Operands, weights, channels, K, tokens of a block, depth, stages, splits
PLAIN = [
    ("f16", "int4", 130, 328, 16, 64, 2, 1),
    ("f16", "int4<group=128>", 128, 384, 32, 128, 2, 1),
    ("f16", "int3<group=32,symmetric=false>", 141, 200, 16, 64, 3, 2),
    ("f16", "amxfp4", 128, 256, 16, 64, 2, 1),
    ("f16", "nf4<group=64>", 113, 136, 32, 128, 2, 1),
    ("f16", "nestedfp16", 128, 192, 16, 64, 2, 1),
    ("bf16", "int5", 128, 184, 16, 64, 2, 1),
    ("i8", "dint4<group=64>", 128, 384, 16, 128, 2, 1),
    ("i8", "int8", 144, 400, 32, 128, 2, 3),
    ("f8E4M3FN", "fp8_e4m3", 128, 272, 16, 128, 2, 1),
]


def problem_of(
    weight: str, operand: str, blocks: str | None, n: int, k: int, tokens: int
) -> LinearProblem:
    result = "bf16" if operand == "bf16" else "f16"
    return LinearProblem(n, k, tokens, weight, operand, result, "f32", blocks=blocks)


def schedule_of(problem: LinearProblem, depth: int, stages: int, splits: int) -> Schedule:
    schedule = Schedule(
        problem.tensor_instruction, 128, problem.tokens, depth, 8, 1, 1, stages, splits
    )
    assert list(illegal(problem, schedule, machine(TARGET))) == []
    return schedule


def operand_of(x: str) -> str:
    return "f8E4M3FN" if x.startswith("mxfp8") else "f4E2M1FN"


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Built:
    given = [(weight, operand_of(x), x, *rest) for weight, x, *rest in BLOCKS]
    given += [(weight, operand, None, *rest) for operand, weight, *rest in PLAIN]
    cases = []
    for weight, operand, x, n, k, tokens, depth, stages, splits in given:
        problem = problem_of(weight, operand, x, n, k, tokens)
        cases.append((problem, schedule_of(problem, depth, stages, splits)))
    return built(cases, tmp_path_factory.mktemp("tensor"), TARGET)


@pytest.mark.parametrize("weight", [each[0] for each in BLOCKS])
def test_blocks(kernels: Built, weight: str) -> None:
    check(kernels, weight, (1, 37))


@pytest.mark.parametrize("weight", [each[1] for each in PLAIN])
def test_plain(kernels: Built, weight: str) -> None:
    check(kernels, weight, (33,))


REFUSED = {
    "begin on no multiple of 16": {"k": 391},
    "not 128 of 8": {"channels": 64},
    "32, 64, 128, 256 tokens here": {"tokens": 8},
    "no boxes of 128 bytes": {"depth": 64},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_does_not_fit_is_refused(reason: str) -> None:
    given = dict(REFUSED[reason])
    problem = LinearProblem(128, given.pop("k", 512), 16, "mxfp4", "f4E2M1FN", blocks="mxfp4")
    schedule = replace(Schedule("tcgen05.mxf4", 128, 16, 256, 8, 1, 1, 2), **given)
    assert reason in "; ".join(illegal(problem, schedule, machine(TARGET)))


def test_sums_of_groups_need_columns() -> None:
    """Two signs, two groups of a step, two steps: eight sums of 128 tokens are too many."""
    problem = LinearProblem(128, 512, 128, "amxfp4", "f16")
    schedule = Schedule("tcgen05.f16", 128, 128, 64, 8, 1, 1, 2)
    assert "1024 columns" in "; ".join(illegal(problem, schedule, machine(TARGET)))


@pytest.mark.parametrize("tokens", [1, 8, 64, 5000])
@pytest.mark.parametrize(("n", "k"), [(1, 32), (17, 352), (4096, 11008)])
def test_blocks_have_a_schedule(tokens: int, n: int, k: int) -> None:
    for weight, x, *_ in BLOCKS:
        problem = problem_of(weight, operand_of(x), x, n, k, tokens)
        schedule = default_schedule(problem, TARGET)
        assert schedule.instruction == problem.tensor_instruction
        assert list(illegal(problem, schedule, machine(TARGET))) == []


def test_many_tokens_are_multiplied_in_tensor_memory() -> None:
    for operand, weight, *_ in PLAIN:
        problem = problem_of(weight, operand, None, 4096, 4096, 1024)
        assert default_schedule(problem, TARGET).instruction == problem.tensor_instruction
        if operand != "f8E4M3FN":  # which warps do not multiply on this machine
            odd = replace(problem, k=4095)
            assert default_schedule(odd, TARGET).instruction == problem.instruction


FAULTS = {
    "operands are not awaited": ("mbarrier_wait(ready.at(stage), phase);", ""),
    "no fence before the tensor unit reads": ("    fence_async_proxy();\n", ""),
    "a stage is filled too early": ("mbarrier_wait(empty.at(stage), phase ^ 1);", ""),
    "sums are not awaited": ("mbarrier_wait(done, 0);", ""),
    "no fence before the sums are read": ("(done, 0);\n  tensor_fence_after();", "(done, 0);"),
    "columns are not released": ("tensor_release(tensor, 64);", ""),
    "columns are released before all have read": (
        "  tensor_fence_before();\n  sync_named(1, 256);\n  if (warp == 0) {", "  if (warp == 0) {",
    ),
    "too few columns": ("tensor_allocate(tensor_address, 64)",
                        "tensor_allocate(tensor_address, 32)"),
    "another quarter of the lanes": ("warp % 4 * 2 + warp / 4", "warp"),
    "scales of other columns": ("tensor + 40", "tensor + 36"),
    "the other scales of a word": ("2 * (piece % 2)", "2 - 2 * (piece % 2)"),
    "products with other columns of K": ("8 * (piece % 4))", "8 * (piece % 2))"),
    "a product of another shape": ("Tensor_kind::mxf4, 32", "Tensor_kind::nvf4, 32"),
    "sums that begin with what was there": ("k > first || piece > 0", "1"),
    "nobody hears of the end": ("tensor_commit(done);", ""),
}  # fmt: skip


def test_planted_faults_are_found(tmp_path: Path) -> None:
    """Each in some mode: by the emulator's checks, or in the result."""
    problem = problem_of("mxfp4", "f4E2M1FN", "mxfp4", 128, 768, 32)
    schedule = schedule_of(problem, 256, 2, 1)
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            launch = linear_kernel(problem, schedule, "linear_0", TARGET)
        source = emit_source(list(module.body.operations))
    texts = []
    for index, (old, new) in enumerate(FAULTS.values()):
        assert old in source, old
        text = source.replace(old, new).replace("linear_0", f"linear_{index}")
        texts.append(text.replace("decode_stored4_f4e2m1fn", f"decode_{index}"))
    made = Built({}, {}, build_emulated("\n".join(texts), tmp_path))
    given = case(problem, launch, 33)
    for index, name in enumerate(FAULTS):
        assert fails(made, replace(launch, kernel=f"linear_{index}"), given), name

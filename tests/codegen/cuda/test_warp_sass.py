"""What nvcc makes of default schedules of attention and convolutions: nothing is spilled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qcc.codegen.cuda.compilers import find_compiler
from qcc.codegen.cuda.emit_warps import emit_warps
from qcc.codegen.cuda.resources import Resources, resources
from qcc.codegen.cuda.toolchain import Job, build_all
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.tile.attention_problem import AttentionProblem, Rows, default_attention
from qcc.dialects.tile.conv_problem import ConvProblem, Window
from qcc.dialects.tile.conv_schedule import default_convolution
from qcc.passes.attention_fold import attention_fold
from qcc.passes.attention_kernel import attention_kernel
from qcc.passes.conv_kernel import conv_kernel

TARGETS = ("sm_80", "sm_90a")
LAYER = Window(64, 64, (3, 3), padding=(1, 1))


def attention(spelling: str | None, rows: int, depth: int = 128) -> AttentionProblem:
    sides = [Rows.of(name, depth, spelling, "f16") for name in ("key", "value")]
    return AttentionProblem(sides[0], sides[1], depth**-0.5, group=8, rows=rows, planes=8)


ATTENTION = {
    "prompt_deep": attention(None, 4096, 256),
    "prompt_mxfp4": attention("mxfp4", 4096),
    "decode_int4": attention("int4", 8),
}
CONVOLUTIONS = {
    "conv_int8": ConvProblem(
        LAYER,
        "int8",
        activation="i8",
        result="i8",
        block=0,
        result_block=0,
        requantised="int8<group=tensor>",
    ),
    "conv_nchw": ConvProblem(LAYER, "int4<group=64>", source="f32", result="f32"),
}
Key = tuple[str, str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[Key, Resources]:
    """By machine and kernel: what they cost."""
    jobs = [Job("warps", source_of(target), target) for target in TARGETS]
    cubins = build_all(jobs, tmp_path_factory.mktemp("cubins"), compiler=find_compiler())
    return {(cubin.target, name): found
            for cubin in cubins for name, found in resources(cubin).items()}  # fmt: skip


def source_of(target: str) -> str:
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            for name, problem in ATTENTION.items():
                schedule = default_attention(problem, target)
                attention_kernel(problem, schedule, name, target)
                if schedule.splits > 1:
                    attention_fold(problem, schedule.splits, f"{name}_fold", target)
            for name, convolution in CONVOLUTIONS.items():
                schedule = default_convolution(convolution, target)
                conv_kernel(convolution, schedule, name, target)
        assert module.operation.verify()
        return emit_warps(list(module.body.operations))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [*ATTENTION, "decode_int4_fold", *CONVOLUTIONS])
def test_default_schedules_spill_nothing(
    built: dict[Key, Resources], name: str, target: str
) -> None:
    found = built[target, name]
    assert not found.spills
    # Requantising divides, exactly, which calls a routine for numbers near the ends of the range.
    assert found.count("RET") == (name == "conv_int8")
    assert found.stack == 0


@pytest.mark.parametrize("target", TARGETS)
def test_matrix_instructions_are_those_of_one_step(
    built: dict[Key, Resources], target: str
) -> None:
    """As many as the two products of a tile of keys need, and no others."""
    for name, problem in ATTENTION.items():
        s = default_attention(problem, target)
        keys = problem.keys.depth // 16 * (s.keys // 8)
        values = s.keys // 16 * (problem.value_columns // 8)
        count = (keys + values) * s.rows // 16
        assert built[target, name].count("HMMA.16816.F32") == count, name
    for name, problem in CONVOLUTIONS.items():
        s = default_convolution(problem, target)
        depth = 32 if problem.activation == "i8" else 16
        count = s.depth // depth * (s.outputs // 8) * (s.pixels // 16)
        opcode = "IMMA.16832.S8.S8" if problem.activation == "i8" else "HMMA.16816.F32"
        assert built[target, name].count(opcode) == count, name


def test_golden_source(golden: Callable[[str, str], None]) -> None:
    """The kernel of a prompt, as a reader sees it."""
    problem = attention(None, 4096)
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            attention_kernel(problem, default_attention(problem), "prompt")
        golden(emit_warps(list(module.body.operations)), ".cu")

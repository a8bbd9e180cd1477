"""What nvcc makes of default schedules of attention and convolutions: nothing is spilled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import pytest

from qcc.codegen.cuda.compilers import find_compiler
from qcc.codegen.cuda.emit_warps import emit_warps
from qcc.codegen.cuda.resources import Resources, resources
from qcc.codegen.cuda.toolchain import Job, build_all
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats.packets import PACKET_ROWS
from qcc.dialects.tile.attention_problem import AttentionProblem, Rows, default_attention
from qcc.dialects.tile.conv_problem import ConvProblem, Window
from qcc.dialects.tile.conv_schedule import ConvSchedule, default_convolution, whole_weights
from qcc.dialects.tile.fragments import INSTRUCTIONS
from qcc.dialects.tile.hardware import is_native
from qcc.dialects.tile.integer_activations import IntegerScale
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
INT8 = ConvProblem(LAYER, "int8", activation="i8", result="i8", block=0, result_block=0,
                   requantised="int8<group=tensor>")  # fmt: skip
INT4 = replace(INT8, weight="int4", activation="i4", result="i4", requantised="int4<group=tensor>")
SHARED = ConvSchedule(4, 2, 32, 32, 64, 2, width=8, taps_inner=True, packs=True)
CONVOLUTIONS = {
    "conv_requantised": INT8,
    "conv_nchw": ConvProblem(LAYER, "int4<group=64>", source="f32", result="f32"),
    "conv_requantised_nibbles": INT4,
    "conv_halves": ConvProblem(LAYER, "int4", block=0, result_block=0),
    "conv_requantised_shared": replace(
        INT4, activation="ui4", x_scale=IntegerScale("", True, True)
    ),
}
OPCODES_OF_GROUPS = {"i8": "IGMMA", "f16": "HGMMA"}
OPCODES = {"i8": "IMMA.16832.S8.S8", "i4": "IMMA.16864.S4.S4", "ui4": "IMMA.16864.U4.S4"}


def schedule_of(name: str, target: str) -> ConvSchedule | None:
    """None where the machine has no such instruction."""
    problem = CONVOLUTIONS[name]
    if not is_native(target, problem.instruction):
        return None
    return SHARED if name.endswith("shared") else default_convolution(problem, target)


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
                if found := schedule_of(name, target):
                    conv_kernel(convolution, found, name, target)
        assert module.operation.verify()
        return emit_warps(list(module.body.operations))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [*ATTENTION, "decode_int4_fold", *CONVOLUTIONS])
def test_default_schedules_spill_nothing(
    built: dict[Key, Resources], name: str, target: str
) -> None:
    if name in CONVOLUTIONS and schedule_of(name, target) is None:
        assert (target, name) not in built
        return
    found = built[target, name]
    assert not found.spills
    # Reciprocals of scales call a routine for numbers near the ends of the range, once each.
    reciprocals = {
        "conv_requantised": 1,
        "conv_requantised_nibbles": 1,
        "conv_requantised_shared": 2,
    }
    assert found.count("RET") <= reciprocals.get(name, 0)
    assert found.count("CALL") <= 1 + reciprocals.get(name, 0)
    assert found.stack == 0


@pytest.mark.parametrize("target", TARGETS)
def test_matrix_instructions_are_those_of_one_step(
    built: dict[Key, Resources], target: str
) -> None:
    """As many as the two products of a tile of keys need, and no others."""
    for name, problem in ATTENTION.items():
        s = default_attention(problem, target)
        if s.warp_groups:
            products = problem.keys.depth // 16 + s.keys // 16
            assert built[target, name].count("HGMMA") == products, name
            assert built[target, name].count("HMMA", "LDSM") == 0, name
            continue
        keys = problem.keys.depth // 16 * (s.keys // 8)
        values = s.keys // 16 * (problem.value_columns // 8)
        count = (keys + values) * s.rows // 16
        assert built[target, name].count("HMMA.16816.F32") == count, name
    grouped = set()
    for name, problem in CONVOLUTIONS.items():
        s = schedule_of(name, target)
        if s is None:
            continue
        depth = INSTRUCTIONS[problem.instruction].k
        if s.warp_groups:
            assert target == "sm_90a"
            opcode = OPCODES_OF_GROUPS[problem.activation]
            assert built[target, name].count(opcode) == s.depth // depth * (s.outputs // 16), name
            assert built[target, name].count("HMMA", "IMMA") == 0, name
            bulk = whole_weights(problem, s) * s.block_outputs // PACKET_ROWS
            assert built[target, name].count("UBLKCP") in (bulk, s.stages * bulk), name
            grouped.add(opcode)
            continue
        count = s.depth // depth * (s.outputs // 8) * (s.pixels // 16)
        taps = prod(problem.window.taps) if s.width else 1  # written out
        opcode = OPCODES.get(problem.activation, "HMMA.16816.F32")
        assert built[target, name].count(opcode) == taps * count, name
    assert grouped == (set(OPCODES_OF_GROUPS.values()) if target == "sm_90a" else set())


def test_golden_source(golden: Callable[[str, str], None]) -> None:
    """The kernel of a prompt, as a reader sees it."""
    problem = attention(None, 4096)
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            attention_kernel(problem, default_attention(problem), "prompt")
        golden(emit_warps(list(module.body.operations)), ".cu")

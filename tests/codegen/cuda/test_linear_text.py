"""Whole emitted kernels as a reader sees them, and what nvcc makes of default schedules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qcc.codegen.cuda.compilers import find_compiler
from qcc.codegen.cuda.emit import emit_source
from qcc.codegen.cuda.resources import Resources, resources
from qcc.codegen.cuda.toolchain import Job, build_all
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.problem import LinearProblem
from qcc.passes.linear_kernel import linear_kernel

DECODE = LinearProblem(4096, 4096, 1, "int4<group=128>", bias="f16")
PREFILL = LinearProblem(4096, 4096, 512, "dint4", "i8")
DEFAULTS = {
    "decode": DECODE,
    "prefill_i8": PREFILL,
    "skinny_nvfp4": LinearProblem(4096, 4096, 16, "nvfp4"),
    "middle_int3": LinearProblem(4096, 4096, 48, "int3<group=64>", "bf16", "bf16"),
    "prefill_int4": LinearProblem(4096, 4096, 512, "int4"),
    "prefill_mxfp6": LinearProblem(4096, 4096, 512, "mxfp6_e2m3"),
    "large_fp16": LinearProblem(4096, 4096, 4096, "fp16"),
    "prefill_amxfp4": LinearProblem(4096, 4096, 512, "amxfp4"),
    "prefill_odd_rows": LinearProblem(4096, 4095, 512, "int4<group=40>"),
    "short_odd_rows": LinearProblem(257, 211, 130, "fp8_e4m3", source="f32"),
    "short_dint3": LinearProblem(128, 160, 8, "dint3<group=32>", "bf16", "bf16"),
    "split_odd_rows": LinearProblem(7, 1027, 2048, "nvfp4<two_level=true>", bias="f16"),
}
HOPPER = {
    "large_w8a8": LinearProblem(4096, 4096, 4096, "int8", "i8"),
    "shared_int4": LinearProblem(11008, 4096, 256, "int4<group=128>"),  # of tiles, by steps
    "prefill_fp8": LinearProblem(4096, 4096, 512, "fp8_e4m3", "f8E4M3FN"),
    "prefill_w4a8": LinearProblem(4096, 4096, 512, "dint4<group=128>", "i8"),
}
BLOCKS = {
    "prefill_mxfp4": LinearProblem(4096, 4096, 512, "mxfp4", "f4E2M1FN", blocks="mxfp4"),
    "decode_nvfp4": LinearProblem(4096, 4096, 1, "nvfp4", "f4E2M1FN", blocks="nvfp4"),
    "prefill_amxfp4_both": LinearProblem(
        4096, 4096, 512, "amxfp4<scale=pot>", "f4E2M1FN", blocks="amxfp4<scale=pot>"
    ),
    "prefill_mxfp8": LinearProblem(4096, 4096, 512, "mxfp8_e4m3", "f8E4M3FN", blocks="mxfp8_e4m3"),
}
TENSOR = {
    name: problem
    for name, problem in (DEFAULTS | HOPPER | BLOCKS).items()
    if "odd" not in name and (problem.tokens > 16 or problem.blocks)
}
TENSOR_OPCODE = {
    "f16": "UTCHMMA", "bf16": "UTCHMMA", "i8": "UTCIMMA", "f8E4M3FN": "UTCQMMA",
    "f4E2M1FN": "UTCOMMA",
}  # fmt: skip
GROUP_OPCODE = {"f16": "HGMMA", "bf16": "HGMMA", "i8": "IGMMA", "f8E4M3FN": "QGMMA"}
OPCODE = {"f16": "HMMA.16816.F32", "bf16": "HMMA.16816.F32.BF16", "i8": "IMMA.16832.S8.S8"}


SCALED_OPCODE = {"f4E2M1FN": "OMMA.SF.16864", "f8E4M3FN": "QMMA.SF.16832"}


def source_of(problems: dict[str, LinearProblem], target: str) -> str:
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            for name, problem in problems.items():
                linear_kernel(problem, default_schedule(problem, target), name, target)
        return emit_source(list(module.body.operations))


@pytest.mark.parametrize(
    ("name", "target"),
    [("decode", "sm_80"), ("prefill_i8", "sm_80"), ("prefill_int4", "sm_90a")],
    ids=["decode", "prefill_i8", "prefill_int4_sm_90a"],
)
def test_source(golden: Callable[[str, str], None], name: str, target: str) -> None:
    golden(source_of({name: DEFAULTS[name]}, target), ".cu")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Resources]]:
    """By machine, then by kernel: what they cost."""
    given = {"sm_80": DEFAULTS, "sm_90a": DEFAULTS | HOPPER, "sm_100a": TENSOR, "sm_120a": BLOCKS}
    jobs = [Job("linear", source_of(each, target), target) for target, each in given.items()]
    folder: Path = tmp_path_factory.mktemp("cubins")
    cubins = build_all(jobs, folder, compiler=find_compiler())
    return {cubin.target: resources(cubin) for cubin in cubins}


CASES = [(name, target) for target in ("sm_80", "sm_90a") for name in DEFAULTS]


@pytest.mark.parametrize(("name", "target"), [*CASES, *((name, "sm_90a") for name in HOPPER)])
def test_default_schedules_spill_nothing(
    built: dict[str, dict[str, Resources]], name: str, target: str
) -> None:
    """And have the matrix instructions of one step of K, as many as its tile needs, no others."""
    found, problem = built[target][name], (DEFAULTS | HOPPER)[name]
    s = default_schedule(problem, target)
    assert not found.spills
    assert found.count("RET") == 0  # no function is called
    assert not found.warnings
    parts = 1 + problem.format.splits_signs
    if s.groups:
        assert found.registers == 168  # of 384 threads; setmaxnreg deals them out
        assert found.count("USETMAXREG") == 2
        assert found.count("UTMALDG") > 0
        products = s.depth // s.record.k * parts
        assert found.count(GROUP_OPCODE[problem.activation]) == products
        assert found.count("HMMA", "IMMA", "QMMA") == 0
        return
    products = s.strips * s.columns * s.depth // s.record.k // s.warps_k * parts
    count = found.count(OPCODE[problem.activation])
    assert count == found.count("HMMA", "IMMA")
    assert count % products == 0 if s.streams else count == products  # nvcc peels its loop


@pytest.mark.parametrize("name", TENSOR)
def test_tensor_memory(built: dict[str, dict[str, Resources]], name: str) -> None:
    """One product for each 32 bytes of K and pair of signs, by one thread; nothing is spilled."""
    found, problem = built["sm_100a"][name], TENSOR[name]
    s = default_schedule(problem, "sm_100a")
    assert s.instruction == problem.tensor_instruction
    assert not found.spills
    assert not found.warnings
    pairs = 1 + problem.format.splits_signs
    if problem.x_format is not None:
        pairs *= 1 + problem.x_format.splits_signs
        assert found.count("UTCCP") > 0
    products = s.depth // s.record.k * pairs
    count = found.count(TENSOR_OPCODE[problem.activation])
    assert count
    assert count % products == 0  # nvcc may peel its loop
    assert found.count("LDTM") > 0
    assert found.count("HMMA", "IMMA", "QMMA", "OMMA") == 0


@pytest.mark.parametrize("name", BLOCKS)
def test_scales_are_operands(built: dict[str, dict[str, Resources]], name: str) -> None:
    """A product for each pair of signs, none of 16 bits, and nothing is rescaled or converted."""
    found, problem = built["sm_120a"][name], BLOCKS[name]
    s = default_schedule(problem, "sm_120a")
    assert not found.spills
    assert not found.warnings
    assert problem.x_format is not None
    pairs = (1 + problem.format.splits_signs) * (1 + problem.x_format.splits_signs)
    products = s.strips * s.columns * s.depth // s.record.k // s.warps_k * pairs
    count = found.count(SCALED_OPCODE[problem.activation])
    assert count % products == 0 if s.streams else count == products
    assert found.count("HMMA", "IMMA", "QMMA", "OMMA") == count

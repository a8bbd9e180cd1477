"""
Products of blocks with their scales in the instruction (sm_120a): emulated against NumPy.

Weights and activations of every pair of formats that an instruction takes, a scale for each sign
included, in kernels with a pipeline and in those that stream.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcc.codegen.cuda.emit import emit_source
from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.formats.packets import to_packets
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.problem import LinearProblem
from qcc.dialects.tile.reference import run_kernel
from qcc.dialects.tile.schedule import Schedule, illegal
from qcc.passes.linear_kernel import linear_kernel
from tests.codegen.cuda.linear_cases import (
    Built,
    block_activations,
    built,
    case,
    check,
    fails,
)

TARGET = "sm_120a"
POWERS, BYTES = "amxfp4<scale=pot>", "amxfp4<scale=e4m3,two_level=false>"
PAIRS = {  # weight: activations, K
    "mxfp4": ("mxfp4", 391),
    POWERS: (POWERS, 391),
    "amxfp4<scale=potr>": ("mxfp4", 388),
    "nvfp4": ("nvfp4", 391),
    BYTES: (BYTES, 391),
    "nvfp4<two_level=true>": (BYTES, 388),
    "mxfp8_e4m3": ("mxfp8_e4m3", 391),
    "mxfp6_e2m3": ("mxfp8_e4m3", 400),
}
# Channels, tokens, depth, warps along channels, tokens, K, stages, splits
SHAPES = ((64, 16, 256, 2, 1, 1, 2, 1), (32, 8, 256, 1, 1, 2, 3, 2), (64, 32, 256, 2, 2, 1, 2, 1))
STREAMED = (POWERS, BYTES, "nvfp4", "mxfp8_e4m3")
STREAMS = ((32, 1, 256, 1, 1, 4, 2, 1), (16, 4, 256, 1, 1, 4, 1, 2), (32, 16, 256, 1, 1, 4, 1, 1))


def problem_of(weight: str, n: int = 49, tokens: int = 16, k: int | None = None) -> LinearProblem:
    x, odd = PAIRS[weight]
    operand = "f8E4M3FN" if x.startswith("mxfp8") else "f4E2M1FN"
    return LinearProblem(n, k or odd, tokens, weight, operand, "f16", "f32", blocks=x)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    folder, made = tmp_path_factory.mktemp("blocks"), {}
    given = {"pipeline": (SHAPES, PAIRS), "streams": (STREAMS, STREAMED)}
    for kind, (shapes, weights) in given.items():
        cases = []
        for index, weight in enumerate(weights):
            problem = problem_of(weight)
            shape = shapes[index % len(shapes)]
            schedule = Schedule(problem.instruction, *shape, streams=kind == "streams")
            assert list(illegal(problem, schedule, machine(TARGET))) == []
            cases.append((problem, schedule))
        made[kind] = built(cases, folder, TARGET)
    return made


@pytest.mark.parametrize("weight", PAIRS)
def test_results(kernels: dict[str, Built], weight: str) -> None:
    check(kernels["pipeline"], weight, (1, 7, 33))


@pytest.mark.parametrize("weight", STREAMED)
def test_results_of_few_tokens(kernels: dict[str, Built], weight: str) -> None:
    check(kernels["streams"], weight, (1, 7, 17))


@pytest.mark.parametrize("weight", PAIRS)
def test_meaning_is_a_linear_layer(weight: str) -> None:
    """What a kernel says, run in NumPy by the meaning of its ops."""
    problem = problem_of(weight, n=37, tokens=5, k=544)
    assert problem.x_format is not None
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            launch = linear_kernel(problem, default_schedule(problem, TARGET), "linear", TARGET)
        assert module.operation.verify()
        rng, fmt = np.random.default_rng(5), problem.format
        parts = fmt.encode_rows(rng.normal(size=(37, 544)).astype(np.float32))
        x, scales, wide = block_activations(rng, problem.x_format, (5, 544))
        given = dict(to_packets(fmt, problem.program.order, parts, 544))
        given |= {f"x_{role}": scale for role, scale in scales.items()}
        given |= {"x": x, "bias": np.arange(37, dtype=np.float32), "tokens": 5}
        given |= {"y": np.zeros((5, 37), np.float16)}
        given |= {name: np.empty(0) for name in ("workspace", "arrivals")}
        run_kernel(module.body.operations[0], given, launch.grid(5))
    wanted = wide @ fmt.decode_rows(parts, 544).astype(np.float64).T + given["bias"]
    np.testing.assert_allclose(given["y"], wanted, rtol=2e-3, atol=2e-2)


FAULTS = {
    "scales of another group": ("2 * packet)", "2 * packet + 1)"),
    "scales of the rows below": ("8 * (lane & 1)", "8 * (lane >> 1 & 1)"),
    "one sign twice": ("negative_e2m1x8(columns", "positive_e2m1x8(columns"),
    "no wait": ("    wait_copies<0>();", "    wait_copies<1>();"),
}


def test_planted_faults_are_found(tmp_path: Path) -> None:
    problem = problem_of(POWERS, n=32, tokens=7, k=512)
    schedule = Schedule(problem.instruction, 32, 8, 256, 1, 1, 1, 2)
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            launch = linear_kernel(problem, schedule, "linear_0", TARGET)
        source = emit_source(list(module.body.operations))
    texts = []
    for index, (old, new) in enumerate(FAULTS.values()):
        assert old in source
        text = source.replace(old, new).replace("linear_0", f"linear_{index}")
        texts.append(text.replace("decode_stored4_f4e2m1fn", f"decode_{index}"))
    faulty = Built({}, {}, build_emulated("\n".join(texts), tmp_path))
    for index, name in enumerate(FAULTS):
        planted = replace(launch, kernel=f"linear_{index}")
        assert fails(faulty, planted, case(problem, launch, 7)), name


@pytest.mark.parametrize(
    ("weight", "x", "reason"),
    [
        ("amxfp4", "mxfp4", "scales of amxfp4 are e5m2, not e8m0"),
        ("mxfp4", "nvfp4", "blocks of nvfp4 are 16, not 32"),
        ("nvfp4", "nvfp4<two_level=true>", "has a scale of the tensor"),
    ],
)
def test_other_pairs_are_refused(weight: str, x: str, reason: str) -> None:
    problem = LinearProblem(64, 64, 1, weight, "f4E2M1FN", blocks=x)
    with pytest.raises(UnsupportedError, match=reason):
        default_schedule(problem, TARGET)


@pytest.mark.parametrize("tokens", [1, 8, 16, 64, 5000])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (17, 100), (4096, 11008)])
def test_every_shape_has_a_legal_schedule(tokens: int, n: int, k: int) -> None:
    for weight in PAIRS:
        problem = problem_of(weight, n, tokens, k)
        schedule = default_schedule(problem, TARGET)
        assert list(illegal(problem, schedule, machine(TARGET))) == []

"""Linear layers of few tokens, whose packets go straight to registers: emulated against NumPy."""

from __future__ import annotations

from itertools import cycle

import pytest

from qcc.dialects.formats import format
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.problem import INSTRUCTION_OF, LinearProblem
from qcc.dialects.tile.schedule import Schedule, illegal
from tests.codegen.cuda.linear_cases import Built, built, check

F16 = ["int2", "int3<group=64>", "int4", "int4<group=128>", "int4<group=40>", "int5<group=100>",
       "int4<group=32,symmetric=false>", "dint4<group=64>", "nf4<group=64>", "mxfp4", "nvfp4",
       "amxfp4", "mxfp6_e2m3", "int8", "fp16", "uint4<group=tensor>"]  # fmt: skip
I8 = ["int8", "int4<group=32>", "dint4", "dint4<group=64>", "int8<group=20>"]
# Channels, tokens, depth, warps along channels, along K, packets ahead, splits
SHAPES = ((32, 1, 128, 1, 2, 3, 1), (64, 2, 256, 2, 4, 1, 2), (16, 4, 128, 1, 2, 2, 3),
          (48, 8, 128, 3, 2, 2, 1), (32, 16, 128, 2, 2, 4, 2))  # fmt: skip


def cases(activation: str, spellings: list[str]) -> list[tuple[LinearProblem, Schedule]]:
    made = []
    for index, (spelling, shape) in enumerate(zip(spellings, cycle(SHAPES), strict=False)):
        channels, tokens, depth, warps_n, warps_k, stages, splits = shape
        fmt = format(spelling)
        k = 391 if fmt.block.ragged or not isinstance(fmt.block_size, int) else 7 * fmt.block_size
        problem = LinearProblem(
            49 - index % 2, k, tokens, spelling, activation, "f16", (None, "f32", "f16")[index % 3]
        )
        schedule = Schedule(
            INSTRUCTION_OF[activation], channels, tokens, depth, warps_n, 1, warps_k, stages,
            splits, streams=True,
        )  # fmt: skip
        assert list(illegal(problem, schedule, machine("sm_80"))) == []
        made.append((problem, schedule))
    return made


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    folder = tmp_path_factory.mktemp("streams")
    given = {"f16": F16, "i8": I8}
    return {kind: built(cases(kind, each), folder) for kind, each in given.items()}


@pytest.mark.parametrize("spelling", F16)
def test_f16(kernels: dict[str, Built], spelling: str) -> None:
    check(kernels["f16"], spelling, (5,))


@pytest.mark.parametrize("spelling", I8)
def test_i8(kernels: dict[str, Built], spelling: str) -> None:
    check(kernels["i8"], spelling, (17,))


@pytest.mark.parametrize("tokens", [1, 3, 8])
@pytest.mark.parametrize("n", [1, 17, 4096, 11008, 28672])
@pytest.mark.parametrize("k", [1, 100, 4096, 28672])
def test_few_tokens_keep_every_multiprocessor_busy(tokens: int, n: int, k: int) -> None:
    """With 64 KiB of packets under way, or all there are; activations half as many bytes."""
    problem = LinearProblem(n, k, tokens, "int4<group=128>")
    schedule = default_schedule(problem, "sm_90a")
    assert list(illegal(problem, schedule, machine("sm_90a"))) == []
    launched = -(-n // schedule.channels) * schedule.splits
    if n >= 4096 and k >= 4096:
        assert launched >= 0.6 * 264
    if schedule.streams and n >= 4096 and k >= 4096:
        packets = schedule.stages * schedule.strips * 512 * schedule.warps
        assert packets >= 16 << 10
        assert 2 * schedule.tokens <= schedule.channels // 4

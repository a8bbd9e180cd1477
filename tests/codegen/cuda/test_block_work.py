"""
Persistent blocks, stream-K, the order of tiles and the swizzle of shared memory, in the emulator.

Shapes are odd, prime or 1; `processors` are the multiprocessors of the device that is emulated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from qcc.codegen.cuda.emit import emit_source
from qcc.codegen.cuda.emulator.build import build_emulated
from qcc.codegen.cuda.emulator.launch import ALL_MODES, EmulatedModule, Mode
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.tile.block_work import Units, matrix_turns, tile_place
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.launch import Launch
from qcc.dialects.tile.problem import LinearProblem
from qcc.dialects.tile.schedule import Schedule, illegal
from qcc.passes.linear_kernel import linear_kernel
from tests.codegen.cuda.linear_cases import Built, Case, built, case, fails, launched

WARPS = Schedule("mma.m16n8k16.f16", 32, 16, 64, 1, 1, 1, 3)
GROUPS = Schedule("wgmma.f16", 64, 16, 64, 4, 1, 1, 3)
PERSISTENT, STREAM_K = {"persistent": 1}, {"persistent": 1, "stream_k": True}
CASES = {
    "sm_80": [
        (LinearProblem(49, 391, 16, "int4", bias="f16"), replace(WARPS, **STREAM_K)),
        (LinearProblem(97, 389, 16, "int4<group=32>", result="f32"),
         replace(WARPS, warps_k=2, depth=128, raster=2, persistent=2, stream_k=True)),
        (LinearProblem(50, 200, 16, "int4<group=40>"), replace(WARPS, warps_m=2, **PERSISTENT)),
        (LinearProblem(1, 389, 16, "nf4<group=64>"), replace(WARPS, **STREAM_K, channels=16)),
        (LinearProblem(61, 1, 16, "int8"), replace(WARPS, **STREAM_K)),
        (LinearProblem(113, 100, 16, "mxfp8_e4m3"), replace(WARPS, raster=3)),
    ],
    "sm_90a": [
        (LinearProblem(83, 328, 16, "int4", bias="f16"), replace(GROUPS, **STREAM_K)),
        (LinearProblem(128, 384, 16, "int4<group=32>", result="f32"),
         replace(GROUPS, **PERSISTENT, raster=2)),
        (LinearProblem(150, 384, 16, "nf4<group=64>"),
         replace(GROUPS, depth=128, channels=128, warps_n=8, stages=2, **STREAM_K, raster=1)),
        (LinearProblem(67, 8, 16, "int8"), replace(GROUPS, **STREAM_K, raster=4)),
    ],
    "sm_100a": [
        (LinearProblem(149, 192, 16, "int8"),
         Schedule("tcgen05.f16", 128, 16, 64, 8, 1, 1, 2, raster=3)),
    ],
}  # fmt: skip
INDEX = [(target, problem.weight) for target, cases in CASES.items() for problem, _ in cases]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """By machine; of each problem also the kernel of the plain grid, under another name."""
    folder = tmp_path_factory.mktemp("loops")
    for target, cases in CASES.items():
        for problem, schedule in cases:
            assert list(illegal(problem, schedule, machine(target))) == []
    return {target: built(cases, folder, target) for target, cases in CASES.items()}


@pytest.mark.parametrize(("target", "weight"), INDEX)
def test_results_are_right_whatever_runs_at_once(
    kernels: dict[str, Built], target: str, weight: str
) -> None:
    """And the same in every mode, with as many blocks."""
    made = kernels[target]
    problem, launch = made.problems[weight], made.launches[weight]
    for tokens, processors in ((1, 3), (65, 1), (37, 5)):
        given, first = case(problem, launch, tokens, processors), None
        for mode in ALL_MODES:
            result = launched(made, launch, given, mode, processors).copy()
            assert (np.abs(result.astype(np.float64) - given.wanted) <= given.bound).all()
            first = result if first is None else first
            np.testing.assert_array_equal(result, first)


WORK = """#include "qcc_cuda.cuh"
namespace qcc {
extern "C" __global__ void places(int* y_pointer, int columns, int strips, int together) {
  const Global<int> y(y_pointer, s64(2) * columns * strips);
  for (int tile = threadIdx.x; tile < columns * strips; tile += 32) {
    const TilePlace place = tile_place(tile, columns, strips, together);
    y.store(2 * tile, place.column);
    y.store(2 * tile + 1, place.strip);
  }
}
QCC_KERNEL(places)
extern "C" __global__ void shares(int* y_pointer, int units, int blocks) {
  const Global<int> y(y_pointer, units + blocks + 1);
  const Shares shares = {units / blocks, units % blocks};
  for (int unit = threadIdx.x; unit < units; unit += 32) y.store(unit, shares.block_of(unit));
  for (int block = threadIdx.x; block <= blocks; block += 32)
    y.store(units + block, shares.first(block));
}
QCC_KERNEL(shares)
}  // namespace qcc
"""


def emitted(problem: LinearProblem, schedule: Schedule, target: str) -> tuple[str, Launch]:
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            launch = linear_kernel(problem, schedule, "linear_0", target)
        return emit_source(list(module.body.operations)), launch


PLAIN = replace(WARPS, depth=128)
EXCHANGED = LinearProblem(97, 391, 16, "int8<group=tensor>")
VARIANTS = {
    "plain": PLAIN,
    "looped": replace(PLAIN, persistent=1, raster=2),
    **{f"swizzle{each}": replace(PLAIN, swizzle=each) for each in (4, 2, 1)},
}


@dataclass(frozen=True)
class Work:
    """The two functions of WORK, and kernels of one problem that differ in their schedules."""

    module: EmulatedModule
    launches: dict[str, Launch]

    def result(self, name: str, given: Case, mode: Mode) -> tuple[np.ndarray, dict[str, int]]:
        launch, tokens = self.launches[name], len(given.arguments["y"])
        given.arguments["y"][:] = 0
        counters = self.module.launch(
            launch.kernel, launch.grid(tokens, 2), launch.threads, launch.shared_bytes,
            [(given.arguments | {"tokens": tokens})[role] for role in launch.arguments], mode,
        )  # fmt: skip
        return given.arguments["y"].copy(), counters


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    texts, launches = [WORK], {}
    for name, schedule in VARIANTS.items():
        source, launch = emitted(EXCHANGED, schedule, "sm_80")
        texts.append(source.replace("linear_0", name).replace("decode_", f"decode_{name}_"))
        launches[name] = replace(launch, kernel=name)
    return Work(build_emulated("\n".join(texts), tmp_path_factory.mktemp("work")), launches)


@pytest.mark.parametrize(
    ("columns", "strips", "raster"), [(1, 1, 1), (7, 3, 2), (5, 4, 8), (6, 1, 3)]
)
def test_blocks_and_python_count_tiles_alike(
    work: Work, columns: int, strips: int, raster: int
) -> None:
    found = np.zeros((columns * strips, 2), np.int32)
    work.module.launch("places", 1, 32, 0, [found, columns, strips, raster])
    wanted = [tile_place(tile, columns, strips, raster) for tile in range(columns * strips)]
    assert found.tolist() == [list(place) for place in wanted]
    assert len(set(wanted)) == len(wanted)


@pytest.mark.parametrize(("units", "blocks"), [(1, 1), (97, 13), (64, 64), (1000, 7)])
def test_blocks_and_python_share_units_alike(work: Work, units: int, blocks: int) -> None:
    """Each unit is in the share of its block, and shares differ by one at most."""
    found, python = np.zeros(units + blocks + 1, np.int32), Units(units, blocks)
    work.module.launch("shares", 1, 32, 0, [found, units, blocks])
    of_unit, first = found[:units].tolist(), found[units:].tolist()
    assert of_unit == [python.block_of(unit) for unit in range(units)]
    assert first == [python.first(block) for block in range(blocks + 1)]
    assert all(first[b] <= unit < first[b + 1] for unit, b in enumerate(of_unit))
    assert np.ptp(np.diff(first)) <= 1


def test_whole_tiles_are_those_of_the_plain_grid_bit_for_bit(work: Work) -> None:
    given = case(EXCHANGED, work.launches["plain"], 65)
    plain, looped = (work.result(name, given, Mode())[0] for name in ("plain", "looped"))
    np.testing.assert_array_equal(plain, looped)
    assert (np.abs(plain - given.wanted) <= given.bound).all()


def test_the_swizzle_keeps_ldmatrix_free_of_conflicts(work: Work) -> None:
    """With vectors exchanged by row % p the emulator counts 8 / p - 1 more turns a matrix."""
    given = case(EXCHANGED, work.launches["plain"], 33)
    _, best = work.result("plain", given, Mode(trace=True))
    assert best["matrix_loads"] > 0
    for swizzle in (4, 2, 1):
        result, counters = work.result(f"swizzle{swizzle}", given, Mode(trace=True))
        assert (np.abs(result - given.wanted) <= given.bound).all()
        turns = matrix_turns(VARIANTS[f"swizzle{swizzle}"])
        assert turns == 8 // swizzle
        more = counters["bank_conflicts"] - best["bank_conflicts"]
        assert more >= 4 * best["matrix_loads"] * (turns - 1)


REFUSED = {
    "exchanges 1, 2, 4, 8 vectors, not 3": (WARPS, {"swizzle": 3}),
    "swizzle of 4 vectors 2 rows of ldmatrix meet": (WARPS, {"swizzle": 4}),
    "within 128 bytes, not 4 vectors": (GROUPS, {"swizzle": 4}),
    "a raster of -1": (WARPS, {"raster": -1}),
    "-1 blocks of a multiprocessor": (WARPS, {"persistent": -1}),
    "are persistent": (WARPS, {"stream_k": True}),
    "not in 2 splits": (WARPS, {"splits": 2, **STREAM_K}),
    "share of K at once": (
        replace(WARPS, tokens=8, depth=128, warps_k=2, streams=True, stages=2), PERSISTENT
    ),
    "threads are more than the 2048": (replace(WARPS, warps_n=2), {"persistent": 33}),
    "shared memory are more than": (replace(WARPS, tokens=128, stages=4), {"persistent": 3}),
    "within one block": (GROUPS, {"persistent": 2}),
    "sums in tensor memory": (Schedule("tcgen05.f16", 128, 32, 64, 8, 1, 1, 3), PERSISTENT),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_does_not_go_together_is_refused(reason: str) -> None:
    schedule, fields = REFUSED[reason]
    target = {"w": "sm_90a", "t": "sm_100a"}.get(schedule.instruction[0], "sm_80")
    problem = LinearProblem(128, 512, 64, "int4")
    assert reason in "; ".join(illegal(problem, replace(schedule, **fields), machine(target)))


def test_few_tokens_need_no_wide_swizzle() -> None:
    """Of one row nothing meets; of four, four vectors are enough."""
    few = replace(WARPS, tokens=4, depth=128, warps_k=2, streams=True, stages=2)
    problem = LinearProblem(128, 512, 4, "int4")
    legal = [s for s in (1, 2, 4, 8)
             if not any(illegal(problem, replace(few, swizzle=s), machine("sm_80")))]  # fmt: skip
    assert legal == [4, 8]


def test_defaults_share_steps_where_the_last_wave_would_be_nearly_empty() -> None:
    """172 tiles on 132 multiprocessors; 264 on as many are two whole waves, and none is shared."""
    wide = LinearProblem(11008, 4096, 256, "int4<group=128>")
    schedule = default_schedule(wide, "sm_90a")
    assert (schedule.channels, schedule.tokens) == (128, 128)
    assert (schedule.persistent, schedule.stream_k) == (1, True)
    assert not default_schedule(replace(wide, n=132 * 128), "sm_90a").persistent
    assert not default_schedule(replace(wide, tokens=16), "sm_90a").persistent
    # 8 tiles on 132 multiprocessors share K in splits, as ever.
    assert default_schedule(replace(wide, n=512), "sm_90a").splits > 1
    # 64 MiB of activations are more than half of the cache.
    assert default_schedule(replace(wide, tokens=8192), "sm_90a").raster == 8


FAULTS = {
    "sm_80": {
        "tiles are not parted": ("sync_threads();  // everybody is done with the tile before", ""),
        "a block's two tiles share a place": ("+ (other == from)", ""),
        "the last share is left out": ("other < to + 1;", "other < to;"),
    },
    "sm_90a": {
        "the ring begins anew": ("float total[8] = {};", "float total[8] = {}; stage = phase = 0;"),
        "results lie in the stages": ("staged(12288,", "staged(0,"),
        "nobody waits for the tile before": (
            "sync_named(1, 128);  // shared memory is free for the epilogue", ""),
    },
}  # fmt: skip


def test_planted_faults_are_found(tmp_path: Path) -> None:
    """Each in some mode: by the emulator's checks, or in the result."""
    problem, texts, planted = LinearProblem(83, 640, 16, "int4"), [], []
    for target, schedule, k in (
        ("sm_80", replace(PLAIN, warps_k=2, raster=2), 640), ("sm_90a", GROUPS, 128)
    ):  # fmt: skip
        problem = replace(problem, k=k)
        source, launch = emitted(problem, replace(schedule, **STREAM_K), target)
        for name, (old, new) in FAULTS[target].items():
            assert old in source, name
            kernel = f"linear_{target}_{len(planted)}"
            text = source.replace(old, new).replace("linear_0", kernel)
            texts.append(text.replace("decode_", f"decode_{len(planted)}_"))
            planted.append((name, problem, replace(launch, kernel=kernel)))
    made = Built({}, {}, build_emulated("\n".join(texts), tmp_path))
    for name, problem, launch in planted:
        assert fails(made, launch, case(problem, launch, 65, 4), 4), name

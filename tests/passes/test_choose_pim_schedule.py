"""The cost model against pim.md's figures and against itself; the choice against all schedules."""

import random

import pytest

from qcc.dialects import pim
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import ResourceError
from qcc.dialects.pim.cost import broadcast_ms, cost_of, transfer_ms
from qcc.dialects.pim.estimate import estimated_cycles
from qcc.dialects.pim.legality import illegal
from qcc.dialects.pim.schedule import METHODS, Problem, Schedule, Share
from qcc.dialects.pim.slots import traces
from qcc.dialects.pim.timing import simulate
from qcc.passes.choose_pim_schedule import (
    Space,
    candidates,
    choose_schedule,
    exhaustive,
    simulated_cycles,
)
from qcc.passes.pim_kernel import pim_kernel

BIT, A3 = (-1, 1), tuple(range(-4, 4))
INT4 = tuple(range(8)) + tuple(range(-8, 0))
INT8 = tuple(range(128)) + tuple(range(-128, 0))
DPU = pim.device("v1A")


def timing(share: Share) -> tuple[float, float]:
    """Slots and cycles for a multiplication."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            kernel = pim_kernel(share, DPU, "k")
        run = simulate(traces(kernel), DPU)
    return run.slots / share.problem.macs, run.cycles / share.problem.macs


@pytest.mark.parametrize(
    ("rows", "p", "groups", "slots", "cycles"),
    [(64, 4, 4, 1.84, 2.13), (256, 4, 4, 1.75, 2.00), (64, 6, 4, 1.23, 1.44),
     (256, 6, 4, 1.17, 1.35), (64, 8, 1, 1.17, 1.33), (256, 8, 1, 1.12, 1.26),
     (64, 8, 2, 0.99, 1.15), (256, 8, 2, 0.94, 1.07), (64, 8, 4, 0.92, 1.13)],
)  # fmt: skip
def test_streamed_tables_cost_what_the_emulated_kernels_did(
    rows: int, p: int, groups: int, slots: float, cycles: float
) -> None:
    """pim.md §1.7: slots and cycles of RV32 runs; K = 768, N = 16, 16 tasklets."""
    schedule = Schedule("canonical", p, groups, row_block=rows)
    found = timing(Share(Problem(rows, 768, 16, BIT, A3), schedule))
    assert found == pytest.approx((slots, cycles), rel=0.08)


def test_the_overflow_of_the_specification_is_rejected() -> None:
    share = Share(Problem(256, 768, 16, BIT, A3), Schedule("canonical", 8, 4, row_block=256))
    assert any("bytes of WRAM" in reason for reason in illegal(share, DPU))


@pytest.mark.parametrize("method", METHODS)
def test_estimates_follow_the_simulation(method: str) -> None:
    problem = Problem(192, 384, 512, BIT, A3)
    space = Space(methods=(method,), grids=((4, 32, 1), (1, 32, 2)))
    rng, ratios = random.Random(0), []
    every = list(candidates(problem, DPU, space))
    while len(ratios) < 6:
        share = Share(problem, rng.choice(every))
        if not list(illegal(share, DPU)):
            ratios.append(estimated_cycles(share, DPU) / simulated_cycles(share, DPU))
    assert min(ratios) > 0.75
    assert max(ratios) < 1.33


def test_long_kernels_are_continued() -> None:
    share = Share(Problem(32, 64, 96, BIT, A3), Schedule("canonical", 4, 4, row_block=32))
    assert simulated_cycles(share, DPU) == pytest.approx(timing(share)[1] * share.problem.macs,
                                                         rel=0.03)  # fmt: skip


def test_the_choice_is_within_five_percent_of_the_best() -> None:
    problem = Problem(64, 96, 32, INT4, A3)
    space = Space(
        methods=("canonical", "lanes", "fly"), tasklets=(12,), groups=(2, 8), words=(1, 4),
        residencies=("stream",), grids=((2, 8, 1),), objective="kernel", finalists=5,
    )  # fmt: skip
    best = exhaustive(problem, DPU, space)
    chosen = choose_schedule(problem, DPU, space)
    assert best.considered == chosen.considered > 10
    assert chosen.cycles <= 1.05 * best.cycles


def test_a_layer_that_fits_nowhere_says_what_would() -> None:
    space = Space(methods=("packed",), residencies=("resident",), groups=(32,))
    with pytest.raises(ResourceError) as error:
        choose_schedule(Problem(64, 768, 16, INT8, INT8), DPU, space, "encoder.0")
    text = str(error.value)
    assert "encoder.0" in text
    assert "the method multiply fits" in text


def test_transfers() -> None:
    one_rank = transfer_ms(DPU, 64, 1_000_000, inward=True) - DPU.host.setup_ms
    assert one_rank == pytest.approx(64e6 / 4.86e9 * 1e3)
    assert transfer_ms(DPU, 2048, 1_000_000, inward=True) - DPU.host.setup_ms == pytest.approx(
        2048e6 / 20e9 * 1e3
    )
    single = transfer_ms(DPU, 1, 1_000_000, inward=False) - DPU.host.setup_ms
    assert single == pytest.approx(1e6 / 0.11e9 * 1e3)
    assert broadcast_ms(DPU, 1_647_360) == pytest.approx(0.1 + 1.64736 * 2048 / 16.9)


def test_the_bytes_of_a_call() -> None:
    share = Share(Problem(256, 768, 64, BIT, A3), Schedule("canonical", 8, 2, row_block=128,
                                                           row_parts=2, token_parts=4))  # fmt: skip
    cost = cost_of(share, DPU, 350_000)
    assert cost.kernel_ms == pytest.approx(1.0)
    assert cost.bytes_in == 8 * 16 * 96 * 8
    assert cost.bytes_out == 64 * 256 * 2
    assert cost.weight_bytes == 4 * 256 * 96
    assert cost.table_bytes == 1_647_360 + 10_321_920
    assert cost.joules > 0

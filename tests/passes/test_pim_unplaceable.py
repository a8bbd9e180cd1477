"""Layers that hardly fit, or not: odd shapes run, and what an error suggests is enough."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import ResourceError
from qcc.dialects.pim.device import device
from qcc.dialects.pim.execute import kernel_sums, reference_run
from qcc.dialects.pim.legality import illegal
from qcc.dialects.pim.schedule import Problem
from qcc.passes.choose_pim_schedule import Choice, Space, choose_schedule
from qcc.passes.pim_kernel import pim_kernel

FOUR = tuple(range(-8, 8))
WHOLE = device("v1A")
DPU = replace(WHOLE, base="v1A", name="mine", ranks=1, dpus_per_rank=4)


def run(choice: Choice, on: Any) -> None:
    """The chosen kernel gives exact sums."""
    p, rng = choice.share.problem, np.random.default_rng(0)
    weights = rng.integers(0, len(p.weights), (p.rows, p.k))
    inputs = rng.integers(0, len(p.activations), (p.tokens, p.k))
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            kernel = pim_kernel(choice.share, on, "k")
        found = kernel_sums(choice.share, reference_run(kernel), weights)(inputs)
    want = np.array(p.activations)[inputs] @ np.array(p.weights)[weights].T
    assert np.array_equal(found, want)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 1, 2), (2, 2, 3), (3, 211, 1), (211, 3, 2)])
def test_odd_shapes(shape: tuple[int, int, int]) -> None:
    run(choose_schedule(Problem(*shape, FOUR, FOUR), DPU), DPU)


def test_tables_of_many_codes() -> None:
    """A chain of 255 additions makes one."""
    space = Space(methods=("lanes",), finalists=1)
    eight = (*range(128), *range(-128, 0))
    run(choose_schedule(Problem(3, 9, 2, eight, (-1, 1)), DPU, space), DPU)


@pytest.mark.parametrize(
    "limits",
    [
        {"most_tasklets": 1, "dpus_per_rank": 1},
        {"most_tasklets": 5},
        {"wram": 4096},
        {"wram": 2048, "most_tasklets": 1, "stack": 256},
        {"mram": 1200},
        {"iram": 700},
    ],
)
def test_small_devices(limits: dict[str, int]) -> None:
    small = replace(DPU, **limits)  # pyright: ignore[reportArgumentType]
    choice = choose_schedule(Problem(24, 40, 8, FOUR, FOUR), small)
    assert not list(illegal(choice.share, small))
    assert choice.cycles < float("inf")
    run(choice, small)


@pytest.mark.parametrize("limits", [{"mram": 64}, {"wram": 1720}, {"iram": 300}])
def test_what_is_suggested_is_enough(limits: dict[str, int]) -> None:
    problem = Problem(24, 40, 8, FOUR, FOUR)
    small = replace(DPU, **limits)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ResourceError) as caught:
        choose_schedule(problem, small, layer="encoder.0")
    error = caught.value
    assert "encoder.0" in error.what
    ((field, budget),) = limits.items()
    assert str(budget) in error.why
    told = re.findall(rf"{field} = (\d+)", error.next_step)
    enough = replace(small, **{field: int(told[0])})  # pyright: ignore[reportArgumentType]
    run(choose_schedule(problem, enough), enough)


def test_more_dpus_are_suggested_where_they_help() -> None:
    problem = Problem(4096, 4096, 4, FOUR, FOUR)
    small = replace(WHOLE, base="v1A", name="small", ranks=2, mram=1 << 14)
    space = Space(methods=("multiply",))
    with pytest.raises(ResourceError) as caught:
        choose_schedule(problem, small, space)
    (count,) = map(int, re.findall(r"(\d+) such DPUs are enough", caught.value.next_step))
    choose_schedule(problem, replace(small, ranks=count // 64), space)
    with pytest.raises(ResourceError):
        choose_schedule(problem, replace(small, ranks=count // 128), space)


def test_a_table_beyond_its_budget() -> None:
    problem = Problem(64, 64, 4, (-1, 1), tuple(range(-128, 128)))
    with pytest.raises(ResourceError) as caught:
        choose_schedule(problem, replace(DPU, mram=4096), Space(methods=("packed",)), "head")
    assert "525952 bytes of MRAM for p = 2" in caught.value.why
    assert "the method multiply fits" in caught.value.next_step
    assert "wram = " not in caught.value.next_step, "no DPU has so much"

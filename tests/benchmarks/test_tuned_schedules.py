"""What the benchmarks of tuned schedules compute before they print it."""

from __future__ import annotations

import pytest

from benchmarks import cpu_schedules, pim_tuning
from benchmarks.pim_goals import problem
from qcc.compiler.tuning.cpu_jobs import cpu_jobs
from qcc.dialects.pim.device import device
from qcc.dialects.pim.space import ESTIMATE


def test_a_gain_is_the_median_of_the_ratios_of_rounds():
    rounds = [[2.0, 1.0], [4.0, 4.0], [3.0, 1.0], [1.0, 1.0], [2.0, 1.0]]
    assert cpu_schedules.gain(rounds) == (2.0, 1.0, 2.0)


def test_equal_layers_of_models_are_one_job():
    layers = cpu_schedules.layers(["GPT-2", "MiniLM"], ["int4<group=32>", "int8 x int8"], 64)
    jobs = cpu_jobs(layers, 64, 1)
    assert len(layers) == len(jobs) == 14
    assert {job.job.task.format for job in jobs} == {"int4<group=32>", "int8 x int8"}
    assert len(cpu_jobs([*layers, *layers], 64, 1)) == 14


@pytest.mark.parametrize("name", pim_tuning.MAKERS)
def test_a_search_of_all_schedules_finds_the_best(name):
    given, target = problem((96, 192), 64, "W1A3"), device("v1A")
    space = pim_tuning.enumerated(given, target, ("fly",), ((1, 64, 1),))
    assert space.members is not None
    assert space.derive is not None
    estimates = space.derive(space.columns(space.members))[ESTIMATE]
    times = dict(zip(space.keys(space.members).tolist(), estimates.tolist(), strict=True))
    most = len(times)
    found = pim_tuning.tuned(space, times, pim_tuning.MAKERS[name], seed=0, most=most)
    assert found == pytest.approx(min(times.values()))

"""What the benchmarks of tuned schedules compute before they print it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import cpu_schedules, pim_tuning
from benchmarks import shipped_trials as benchmark_trials
from benchmarks.pim_goals import problem
from qcc.autotune.database import Database
from qcc.autotune.database.shipped import shipped_trials
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


def test_shipped_trials_rank_those_of_a_task_that_they_leave_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one format, and a few tasks of it, in a database of their own."""
    database = Database(tmp_path / "some.db", create=True)
    store = shipped_trials()
    tasks = [task for task in store.tasks() if task.format == "int8 x int8"]
    for task in [task for task in tasks if task.problem.get("m") == 12][:4]:
        database.add(task, store.measurements(task))
    assert benchmark_trials.main(["--database", str(tmp_path / "some.db")]) == 0
    _, row, whole = capsys.readouterr().out.splitlines()
    *_, tasks, correlation, first, any_ = row.split()
    assert (tasks, float(correlation) > 0.3, float(first) < float(any_)) == ("4", True, True)
    assert whole.split()[1:] == [tasks, correlation, first, any_]

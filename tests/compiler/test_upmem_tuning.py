"""Candidates for DPUs are refused, checked, timed; layers take schedules of a database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

import qcc
from qcc.autotune.database import Collection, Database, Entry
from qcc.autotune.measure.backend import Refused
from qcc.autotune.measurement import Measurement
from qcc.compiler.cli import main
from qcc.compiler.tuning import upmem_backend
from qcc.compiler.tuning.stored_pim_schedules import StoredPimSchedules
from qcc.compiler.tuning.upmem_backend import UpmemBackend, pim_problem
from qcc.compiler.tuning.upmem_jobs import upmem_task
from qcc.compiler.upmem.device import chosen_device
from qcc.dialects.pim.schedule import Schedule
from qcc.dialects.pim.space import values_of
from qcc.passes.choose_pim_schedule import simulated_cycles

DPUS = chosen_device("v1A", 4)
TASK = upmem_task({"rows": 64, "k": 96, "tokens": 16}, "int4 x int4", DPUS)
FLY = Schedule("fly", 1, 4, row_block=4, tasklets=4, row_parts=4)
LANES = Schedule("lanes", 2, 4, shared=True, words=2, row_block=4, tasklets=4, row_parts=2)


@pytest.mark.parametrize("schedule", [FLY, LANES, Schedule("multiply", groups=8, tasklets=2)])
def test_candidates_are_checked_and_take_their_modelled_time(schedule):
    backend = UpmemBackend("v1A", 4)
    kernel = backend.load(TASK, backend.build(TASK, values_of(schedule)))
    assert kernel.check() == ""
    share = upmem_backend.Share(pim_problem(TASK), schedule)
    assert kernel.run().seconds * 1e3 > DPUS.milliseconds(simulated_cycles(share, DPUS))
    assert kernel.run() == kernel.run()


def test_illegal_ones_are_refused_and_wrong_ones_found():
    backend = UpmemBackend("v1A", 4)
    with pytest.raises(Refused, match="5 DPUs, the machine has 4"):
        backend.build(TASK, values_of(replace(FLY, row_parts=5)))
    kernel = backend.load(TASK, backend.build(TASK, values_of(FLY)))
    with patch.object(upmem_backend, "reference_run", _faulty):
        assert "of" in kernel.check()
        assert "sums differ" in kernel.check()


def _faulty(kernel):
    def run(arrays):
        from qcc.dialects.pim.reference import run_kernel

        run_kernel(kernel, arrays, {})
        arrays["results"].flat[0] += 1

    return run


def stored(*entries: Entry) -> StoredPimSchedules:
    return StoredPimSchedules([("kept", Collection(entries))], DPUS)


def test_layers_take_what_was_tuned_for_their_problem():
    problem = pim_problem(TASK)
    took = Measurement(values=values_of(LANES), seconds=1e-3, checked=True, modelled=True)
    assert stored(Entry(TASK, took)).choose(problem, DPUS, "fc").schedule == LANES
    other = upmem_task({"rows": 64, "k": 96, "tokens": 17}, "int4 x int4", DPUS)
    assert stored(Entry(other, took)).choose(problem, DPUS, "fc").schedule != LANES
    unfit = Measurement(values=values_of(replace(LANES, row_parts=9)), seconds=1.0, checked=True)
    assert stored(Entry(TASK, unfit)).choose(problem, DPUS, "fc").schedule.row_parts <= 4


@pytest.mark.parametrize(
    ("problem", "formats"),
    [
        ({"n": 64}, "int4 x int4"),
        ({"rows": "many", "k": 96, "tokens": 16}, "int4 x int4"),
        ({"rows": 64, "k": 96, "tokens": 16}, "int4"),
        ({"rows": 64, "k": 96, "tokens": 16}, "fp32 x int4"),
        ({"rows": 0, "k": -3, "tokens": 16}, "int4 x int4"),
    ],
)
def test_tasks_of_others_are_not_for_any_layer(problem, formats):
    took = Measurement(values={"tile": 4}, seconds=1e-3, checked=True)
    store = stored(Entry(upmem_task(problem, formats, DPUS), took))
    assert store.choose(pim_problem(TASK), DPUS, "fc").schedule.dpus <= 4


@pytest.mark.parametrize(
    "values", [{"tile": 4}, {**values_of(LANES), "p": 0}, {**values_of(LANES), "p": "x"}]
)
def test_values_of_others_are_not_taken(values):
    took = Measurement(values=values, seconds=1e-3, checked=True)
    store = stored(Entry(TASK, took))
    assert store.choose(pim_problem(TASK), DPUS, "fc").schedule.dpus <= 4


def test_tune_and_compile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(48, 32), torch.nn.Linear(32, 48))
    program, database = tmp_path / "layers.pt2", tmp_path / "tuned.db"
    torch.export.save(torch.export.export(layers, (torch.randn(8, 48),)), program)
    words = [str(program), "--recipe", "w4a4", "--target", "upmem", "--dpus", "4"]
    more = ["--database", str(database), "--trials", "2", "--strategy", "random"]
    assert main(["tune", *words, *more]) == 0
    assert "upmem.linear" in capsys.readouterr().out
    assert {task.kernel for task in Database(database).tasks()} == {"upmem.linear"}
    out = tmp_path / "out.qcc"
    assert main(["compile", *words, "--schedules", str(database), "-o", str(out)]) == 0
    assert "2 of 2 layers have schedules of tuned.db" in capsys.readouterr().out
    assert qcc.load(out).report["schedules"]["database"] == "tuned.db"

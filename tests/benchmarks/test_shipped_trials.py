"""Trials that ship: how shapes that are left out are ranked, and how those of GPUs are made."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import UNSET

from benchmarks import cuda_trials, held_out_shapes
from benchmarks.held_out_shapes import CHANCE, SOURCES, TOGETHER, Judged, quality, shape
from benchmarks.shipped_trials import ship
from qcc.autotune.database import Database
from qcc.autotune.database.document import decode_document
from qcc.autotune.database.shipped import shipped_trials
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.matmul_problem import illegal


def test_models_learn_from_other_shapes_alone(tmp_path: Path, monkeypatch: Any, capsys) -> None:
    database = Database(tmp_path / "some.db", create=True)
    store = shipped_trials()
    for task in store.tasks():
        if (task.format, task.problem.get("m")) == ("int8 x int8", 12):
            database.add(task, store.measurements(task))
    taught: list[tuple[str, set[str]]] = []
    real = held_out_shapes.related

    def noting(task: Task, space: Any, stores: Any) -> Any:
        found = real(task, space, stores)
        taught.append((shape(task), {shape(each.task) for each in found}))
        return found

    monkeypatch.setattr(held_out_shapes, "related", noting)
    words = ["--database", str(database.path), "--output", str(tmp_path)]
    assert held_out_shapes.main(words) == 0
    assert len(taught) == 7
    assert all(others and left_out not in others for left_out, others in taught)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "held out"
    whole = {line[18:42].strip(): line.split()[-3:] for line in lines if line.startswith("all")}
    text = (tmp_path / "ranking-shapes.md").read_text()
    assert "| all | 7 | 20 | trees, ranked together |" in text
    assert (tmp_path / "ranking-shapes.svg").read_text().count("<text") == 4
    assert len(whole) == 3


def test_quality_is_of_ranks() -> None:
    seconds = np.arange(1.0, 21.0)
    task = Task("cpu.linear", {"n": 1, "k": 2})
    backwards = {TOGETHER: seconds**3, SOURCES: -seconds, CHANCE: np.roll(seconds, 10)}
    found = Judged(task, seconds, backwards)
    assert quality(found, TOGETHER) == pytest.approx((1, 1, 1))
    assert quality(found, SOURCES) == pytest.approx((-1, 0, 20))
    assert quality(found, CHANCE)[1:] == pytest.approx((0, 11))


def test_what_ships_is_replaced_kernel_by_kernel(tmp_path: Path) -> None:
    database, target = Database(tmp_path / "t.db", create=True), tmp_path / "trials.json.gz"
    task = Task("cuda.matmul", {"depth": 1}, device="sm_80, no GPU")
    database.add(task, [Measurement(values={"depth": 16}, seconds=1.0, host="mine", when=5.0)])
    before = shipped_trials()
    others = [each for each in before.tasks() if each.kernel != "cuda.matmul"]
    count = ship([database], target)
    after = decode_document(gzip.decompress(target.read_bytes()), "")
    assert {each.key for each in after.tasks()} == {each.key for each in [task, *others]}
    assert count == 1 + sum(len(before.measurements(each)) for each in others)
    [kept] = after.measurements(task)
    assert (kept.host, kept.when, kept.seconds) == ("", 0.0, 1.0)


def test_shipped_trials_of_gpus_say_what_ptxas_told() -> None:
    store = shipped_trials()
    told = [each for task in store.tasks() if task.kernel.startswith("cuda.")
            for each in store.measurements(task)]  # fmt: skip
    assert len(told) > 200
    assert all(each.modelled and not each.checked for each in told)
    found = [each.resources for each in told]
    assert all(each is not UNSET and 0 < each["registers"] <= 255 for each in found)
    assert any(each is not UNSET and each["spill_bytes"] for each in found)


def test_kernels_are_built_once_and_as_many_of_each_kind(tmp_path: Path, monkeypatch, capsys):
    def built(problem: Any, task: Task, name: str, values: dict) -> Measurement:
        if task.kernel == "cuda.matmul":
            schedule = cuda_trials.FAMILIES[task.kernel].schedule_of(values)
            assert not list(illegal(problem, schedule, machine(name)))
        resources = {"registers": 100, "spill_bytes": 0}
        return Measurement(values=values, seconds=1e-6, modelled=True, resources=resources)

    monkeypatch.setattr(cuda_trials, "built", built)
    monkeypatch.setattr(cuda_trials, "LINEAR", cuda_trials.LINEAR[2:3])
    for name in ("CONVOLUTIONS", "ATTENTION"):
        monkeypatch.setattr(cuda_trials, name, ())
    path = tmp_path / "t.db"
    words = ["--database", str(path), "--machines", "sm_90a", "--schedules", "3"]
    assert cuda_trials.main([*words, "--minutes", "0"]) == 0
    assert "0 schedules built, 6 left; call again" in capsys.readouterr().out
    assert cuda_trials.main(words) == 0
    assert "6 schedules built, 0 left" in capsys.readouterr().out
    assert cuda_trials.main(words) == 0
    assert "0 schedules built, 0 left" in capsys.readouterr().out
    store = Database(path)
    kept = {task.kernel: store.measurements(task) for task in store.tasks()}
    assert all(len({str(each.values) for each in own}) == 3 for own in kept.values())
    assert len({each.values["instruction"] for each in kept["cuda.linear"]}) == 2

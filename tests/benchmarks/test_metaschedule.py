"""The benchmark against TVM's MetaSchedule, without TVM: a stand-in has its kernels."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import metaschedule
from benchmarks.metaschedule import NAMES, Row, chosen, compared, document, layer_of, parsed
from benchmarks.peers import metaschedule as peer
from benchmarks.peers.metaschedule import Found, Layer
from qcc.autotune.measure.backend import Run
from qcc.autotune.trials import Trials
from qcc.autotune.tuned import Tuned
from qcc.compiler.tuning.cpu_jobs import cpu_jobs
from qcc.dialects.cpu.default_schedule import default_schedule
from qcc.dialects.cpu.schedule import LinearProblem, ScheduledLayer
from qcc.dialects.errors import UnsupportedError

FOUND = Found(trials=32, failed=2, seconds=90.0, packed=None)


def row(rounds: list[list[float]]) -> Row:
    return Row(Layer(96, 64, 12), "Net", rounds, 30.0, FOUND)


def test_ratios_are_those_of_rounds():
    even = [[2e-3, 1e-3, 4e-3, 2e-3], [4e-3, 2e-3, 8e-3, 4e-3], [1e-3, 1e-3, 4e-3, 2e-3]]
    text = document([row(even), row([[1e-3] * 4])], 32)
    assert "| 96x64 | 12 | Net | 2.000 | 1.000 | 4.000 | 2.000 | 4.00 | 30 s |" in text
    assert "90 s, 2 failed |" in text
    assert "Geometric mean of seconds over those of the tuned schedule" in text
    assert "default 1.414, MetaSchedule 2.000, torch 1.414" in text
    assert "All tuning: `qcc tune` 60 s, MetaSchedule 180 s." in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


def test_layers_are_those_of_the_models_or_some_of_them():
    words = ["--models", "MiniLM", "--tokens", "12,128"]
    found = [layer_of(job.job.task) for job in chosen(parsed(words))]
    assert len(found) == 6
    some = [layer_of(job.job.task) for job in chosen(parsed([*words, "--layers", "384x1536"]))]
    assert some == [Layer(384, 1536, 12), Layer(384, 1536, 128)]
    with pytest.raises(SystemExit):
        parsed(["--models", "nobody"])


def test_without_tvm_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(peer, "NEEDED", ("no_such_package",))
    assert metaschedule.main(["--models", "MiniLM"]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert "[tvm-extra]" in told.err
    assert "no_such_package" in told.err
    assert f"where: {sys.executable}" in told.err
    assert "next: pip install 'qcc[tune,tvm]'" in told.err


def test_what_the_folder_has_is_not_tuned_again(tmp_path, monkeypatch):
    done, new = Layer(96, 64, 12), Layer(96, 64, 128)
    (tmp_path / f"{done.name}.json").write_bytes(msgspec.json.encode(FOUND))
    monkeypatch.setattr(peer, "require_tvm", lambda: None)
    monkeypatch.setattr(sys, "executable", "false")
    peer.tune([done], tmp_path, 32)
    assert peer.found(done, tmp_path) == FOUND
    with pytest.raises(UnsupportedError, match="exit status 1") as told:
        peer.tune([done, new], tmp_path, 32)
    assert told.value.where == f"{tmp_path}/log.txt"


class Product:
    """In place of a library of TVM."""

    def __init__(self, layer: Layer, folder: Path) -> None:
        self._x, self._w = layer.inputs()

    def check(self) -> str:
        return ""

    def run(self) -> Run:
        return Run(float(self._x.shape[0]) if self._w.shape[0] == 64 else 0.0)

    def close(self) -> None:
        pass


def test_all_kernels_of_a_layer_run_in_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(metaschedule, "MetaScheduleKernel", Product)
    monkeypatch.setattr(metaschedule, "ROUNDS", 3)
    problem = LinearProblem(64, 32, "fp32")
    schedule = default_schedule(problem, frozenset())
    (job,) = cpu_jobs([ScheduledLayer("fc", problem, 8, "", schedule, False)], 8, 1)
    layer = layer_of(job.job.task)
    assert layer == Layer(64, 32, 8)
    (tmp_path / f"{layer.name}.json").write_bytes(msgspec.json.encode(FOUND))
    tuned = Tuned(job.job, Trials([]), 0, 1.0, dict(job.job.default))
    made = compared(job, tuned, 7.0, tmp_path)
    seconds = np.array(made.rounds)
    assert seconds.shape == (3, len(NAMES))
    assert (seconds > 0).all()
    assert (seconds[:, NAMES.index("MetaSchedule")] == 8.0).all()
    assert (made.qcc_seconds, made.peer, made.model) == (7.0, FOUND, "fc")

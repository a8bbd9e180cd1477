"""Candidates for tensor cores without a GPU: refused, checked on the emulator, judged, and used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

import numpy as np
import pytest
import torch

import qcc
from qcc.autotune.database import Collection, Database, Entry
from qcc.autotune.measure.backend import Refused
from qcc.autotune.measurement import Measurement
from qcc.compiler.tuning import cuda_backend
from qcc.compiler.tuning.cuda_backend import CudaBackend
from qcc.compiler.tuning.cuda_jobs import cuda_task
from qcc.compiler.tuning.stored_cuda_schedules import StoredCudaSchedules
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.problem import LinearProblem
from qcc.dialects.tile.space import values_of

PROBLEM = LinearProblem(64, 128, 8, "int8")
TASK = cuda_task(PROBLEM, "sm_80")
DEFAULT = default_schedule(PROBLEM, "sm_80")
OTHER = replace(DEFAULT, warps_k=1, depth=128, streams=False, stages=2)


def test_a_candidate_is_refused_or_built_checked_and_judged():
    backend = CudaBackend("cuda:sm_80", "f16")
    with pytest.raises(Refused, match="no strips"):
        backend.build(TASK, values_of(replace(OTHER, channels=17)))
    kernel = backend.load(TASK, backend.build(TASK, values_of(OTHER)))
    assert kernel.run().seconds > 0
    assert kernel.check() == ""

    wrong = Mock()
    wrong.call.return_value = [np.zeros((8, 64), np.float32)]
    with patch.object(cuda_backend, "start", lambda *_: wrong):
        assert "results differ" in kernel.check()
    wrong.close.assert_called_once()


def test_layers_take_what_was_tuned_for_their_problem():
    took = Measurement(values=values_of(OTHER), seconds=1e-6, checked=True, modelled=True)
    stored = StoredCudaSchedules([("kept", Collection([Entry(TASK, took)]))])
    assert stored.choose(PROBLEM, "sm_80") == OTHER
    assert stored.choose(replace(PROBLEM, bias="f16"), "sm_80") == OTHER
    assert stored.choose(replace(PROBLEM, tokens=9), "sm_80") != OTHER
    assert stored.choose(PROBLEM, "sm_90a") == default_schedule(PROBLEM, "sm_90a")
    assert [each.source for each in stored.choices] == ["kept", "kept", "default", "default"]


def test_compile_takes_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    took = Measurement(values=values_of(OTHER), seconds=1e-6, checked=True, modelled=True)
    Database(tmp_path / "tuned.db", create=True).add(TASK, [took])
    layer, x = torch.nn.Linear(128, 64), torch.randn(8, 128)
    module = qcc.compile(
        layer, (x,), recipe="int8", target="cuda:emulate", schedules=tmp_path / "tuned.db",
        golden=False,
    )  # fmt: skip
    [found] = module.report["schedules"]["layers"]
    assert (found["source"], found["schedule"]) == ("tuned.db", values_of(OTHER))
    np.testing.assert_allclose(np.asarray(module(x)), layer(x).detach(), atol=0.05)

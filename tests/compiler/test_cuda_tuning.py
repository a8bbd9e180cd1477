"""Candidates for tensor cores without a GPU: refused, checked on the emulator, judged, and used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import pytest
import torch

import qcc
from qcc.autotune.database import Collection, Database, Entry
from qcc.autotune.measure.backend import Refused
from qcc.autotune.measurement import Measurement
from qcc.compiler.targets import require_target
from qcc.compiler.tuning import cuda_backend, one_attention
from qcc.compiler.tuning.cuda_backend import CudaBackend
from qcc.compiler.tuning.cuda_families import FAMILIES
from qcc.compiler.tuning.cuda_tasks import device_text, linear_task
from qcc.compiler.tuning.one_attention import OneAttention
from qcc.compiler.tuning.stored_cuda_schedules import StoredCudaSchedules
from qcc.dialects.tile.attention_problem import AttentionProblem, AttentionSchedule, Rows
from qcc.dialects.tile.conv_problem import ConvProblem, Window
from qcc.dialects.tile.conv_schedule import ConvSchedule
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.matmul_problem import MatmulProblem, MatmulSchedule
from qcc.dialects.tile.problem import LinearProblem
from qcc.dialects.tile.space import values_of

PROBLEM = LinearProblem(64, 128, 8, "int8")
TASK = linear_task(PROBLEM, device_text("sm_80"))
LINEAR = FAMILIES["cuda.linear"]
DEFAULT = default_schedule(PROBLEM, "sm_80")
OTHER = replace(DEFAULT, warps_k=1, depth=128, streams=False, stages=2)


def test_a_candidate_is_refused_or_built_checked_and_judged():
    backend = CudaBackend("cuda:sm_80", "f16")
    with pytest.raises(Refused, match="no strips"):
        backend.build(TASK, values_of(replace(OTHER, channels=17)))
    kernel = backend.load(TASK, backend.build(TASK, values_of(OTHER)))
    assert kernel.run().seconds > 0
    assert kernel.check() == ""

    looped = replace(OTHER, channels=16, persistent=2, stream_k=True, raster=1)
    sharing = backend.load(TASK, backend.build(TASK, values_of(looped)))
    assert sharing.run().seconds > 0
    assert sharing.check() == ""

    wrong = Mock()
    wrong.call.return_value = [np.zeros((8, 64), np.float32)]
    with patch.object(cuda_backend, "start", lambda *_: wrong):
        assert "results differ" in kernel.check()
    wrong.close.assert_called_once()


def test_layers_take_what_was_tuned_for_their_problem():
    took = Measurement(values=values_of(OTHER), seconds=1e-6, checked=True, modelled=True)
    stored = StoredCudaSchedules([("kept", Collection([Entry(TASK, took)]))])
    assert stored.choose(LINEAR, PROBLEM, "sm_80") == OTHER
    assert stored.choose(LINEAR, replace(PROBLEM, bias="f16"), "sm_80") == OTHER
    assert stored.choose(LINEAR, replace(PROBLEM, tokens=9), "sm_80") != OTHER
    assert stored.choose(LINEAR, PROBLEM, "sm_90a") == default_schedule(PROBLEM, "sm_90a")
    assert [each.source for each in stored.choices] == ["kept", "kept", "default", "default"]


CONV = ConvProblem(Window(8, 24, (3, 3), padding=(1, 1)), "int8", 30)
IN_BLOCKS = replace(
    CONV, window=Window(16, 24, (3, 3)), pixels=8 * 6, activation="i8", blocks=(8, 16)
)
PROMPT = AttentionProblem(Rows.of("key", 32, None), Rows.of("value", 32, None), 0.2, 2, 66, 2)
SIX = [0, 8, 16, 23, 31, 39]
NARROW = ConvSchedule(1, 1, 16, 16, 64, 3)
SHARED = AttentionSchedule(2, 16, 32, 3, splits=2, share_keys=True)
PRODUCT = MatmulProblem(40, 50, right="f32", rows=37, batch=3)
TALL = MatmulSchedule(1, 2, 2, 32, 16, 3)


@pytest.mark.parametrize(
    ("kernel", "problem", "schedule"),
    [
        ("cuda.conv2d", CONV, NARROW),
        ("cuda.conv2d", IN_BLOCKS, replace(NARROW, image_blocks=True)),
        ("cuda.attention", PROMPT, SHARED),
        ("cuda.matmul", PRODUCT, TALL),
    ],
)
def test_other_kernels_likewise(kernel, problem, schedule):
    family = FAMILIES[kernel]
    task = family.task(problem, device_text("sm_80"), 100)
    backend = CudaBackend("cuda:sm_80", "f16")
    with pytest.raises(Refused, match="stage"):
        backend.build(task, values_of(replace(schedule, stages=1)))
    kernel = backend.load(task, backend.build(task, values_of(schedule)))
    assert kernel.run().seconds > 0
    assert kernel.check() == ""

    took = Measurement(values=values_of(schedule), seconds=1e-6, checked=True, modelled=True)
    stored = StoredCudaSchedules([("kept", Collection([Entry(task, took)]))])
    assert stored.choose(family, problem, "sm_80") == schedule
    # Neither what is around a layer nor how many keys there were changes what it takes.
    assert stored.choose(family, replace(problem, result="f32"), "sm_80") == schedule
    other = family.task(problem, device_text("sm_80"), 7)
    assert (
        StoredCudaSchedules([("kept", Collection([Entry(other, took)]))]).choose(
            family, problem, "sm_80"
        )
        == schedule
    )
    assert stored.choose(family, problem, "sm_90a") == family.default(problem, "sm_90a")


def test_what_a_gpu_was_asked_counts_before_what_was_judged():
    judged = Measurement(values=values_of(OTHER), seconds=1e-9, checked=True, modelled=True)
    asked = Measurement(values=values_of(DEFAULT), seconds=1e-6, checked=True)
    on_gpu = linear_task(PROBLEM, device_text("sm_80", "A100"))
    other_machine = linear_task(PROBLEM, device_text("sm_86", "A10"))
    entries = [Entry(TASK, judged), Entry(other_machine, judged), Entry(on_gpu, asked)]
    stored = StoredCudaSchedules([("kept", Collection(entries))])
    assert stored.choose(LINEAR, PROBLEM, "sm_80") == DEFAULT
    assert stored.choices[-1].source == "kept"


def test_compile_takes_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    took = Measurement(values=values_of(OTHER), seconds=1e-6, checked=True, modelled=True)
    task = linear_task(replace(PROBLEM, source="f32"), device_text("sm_80"))
    Database(tmp_path / "tuned.db", create=True).add(task, [took])
    layer, x = torch.nn.Linear(128, 64), torch.randn(8, 128)
    module = qcc.compile(
        layer, (x,), recipe="int8", target="cuda:emulate", schedules=tmp_path / "tuned.db",
        golden=False,
    )  # fmt: skip
    [found] = module.report["schedules"]["layers"]
    assert (found["source"], found["schedule"]) == ("tuned.db", values_of(OTHER))
    np.testing.assert_allclose(np.asarray(module(x)), layer(x).detach(), atol=0.05)


def test_of_long_attention_some_queries_are_compared_the_last_ones_too():
    rows = Rows.of("key", 16, None), Rows.of("value", 16, None)
    one = OneAttention(AttentionProblem(*rows, 0.25, 2, rows=2 * 40, planes=3), keys=100)
    whole = one.data()
    assert whole.picked is not None
    assert list(whole.picked) == list(range(3 * 80))
    with patch.object(one_attention, "MOST_SCORES", 100 * 12):
        some = one.data()
    assert some.picked is not None
    assert list(some.picked) == [160 + 40 * head + at for head in (0, 1) for at in SIX]
    np.testing.assert_array_equal(some.expected, whole.expected[some.picked])
    found = np.zeros((3 * 80, 16))
    found[some.picked] = some.expected
    assert some.wrong(found) == ""
    found[239] += 1
    assert "16 of 192 results differ" in some.wrong(found)


@pytest.mark.parametrize("operand", ["i8", "i4", "ui4"])
@pytest.mark.parametrize("kernel", ["cuda.linear", "cuda.conv2d"])
def test_a_task_is_the_layer_that_multiplies_what_its_problem_does(kernel: str, operand: str):
    problem: Any = replace(PROBLEM if kernel == "cuda.linear" else CONV, weight="int4")
    family, asked = FAMILIES[kernel], []

    def choose(problem: Any, machine: str) -> Any:
        asked.append(problem.activation)
        return family.default(problem, machine)

    task = family.task(replace(problem, activation=operand), device_text("sm_80"), 0)
    family.layer(task).code(choose, require_target("cuda:sm_80"), "f16")
    assert asked == [operand]


def test_defaults_of_half_precision_layers_can_be_tuned():
    """Warp groups copy rows as they lie in memory, so a task says what they are."""
    problem = LinearProblem(128, 256, 300, "int4<group=128>", "f16")
    task, schedule = (
        linear_task(problem, device_text("sm_90a")),
        default_schedule(problem, "sm_90a"),
    )
    assert schedule.groups
    backend = CudaBackend("cuda:sm_90a", "f16")
    backend.build(task, values_of(schedule))
    assert linear_task(replace(problem, source="f32"), device_text("sm_90a")) != task

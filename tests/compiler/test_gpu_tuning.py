"""Kernels timed on a GPU: the recorded driver runs them, and its clock counts blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from qcc.autotune.database import Database
from qcc.autotune.measure.backend import BackendName
from qcc.autotune.measure.device_lock import DeviceLock
from qcc.autotune.measure.executors.base import NotCompared
from qcc.autotune.measure.executors.local import LocalExecutor
from qcc.autotune.measure.sampling import Sampling
from qcc.autotune.task import Task
from qcc.codegen.cuda import driver_api
from qcc.codegen.cuda.gpu import Gpu, find_gpu
from qcc.compiler.options import CompileOptions
from qcc.compiler.targets import require_target
from qcc.compiler.tuning import cuda_backend, cuda_jobs, gpu_choice, serving, session
from qcc.compiler.tuning.cuda_families import FAMILIES, values
from qcc.compiler.tuning.cuda_tasks import device_text, linear_task
from qcc.compiler.tuning.gpu_choice import chosen_gpu, target_here
from qcc.compiler.tuning.gpu_timing import LEAST_LAUNCHES
from qcc.compiler.tuning.opening import open_tunable
from qcc.dialects.errors import ResourceError, UnsupportedError
from qcc.dialects.tile.attention_problem import AttentionProblem, AttentionSchedule, Rows
from qcc.dialects.tile.conv_problem import ConvProblem, Window
from qcc.dialects.tile.conv_schedule import ConvSchedule
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.matmul_problem import MatmulProblem, MatmulSchedule
from qcc.dialects.tile.problem import LinearProblem
from tests.compiler import recorded_gpu
from tests.compiler.recorded_driver import CACHE

GPU = Gpu("Recorded 1000", "abcd", 80)
DEVICE = device_text("sm_80", GPU.name)
LINEAR = LinearProblem(64, 128, 8, "int4<group=32>")
CONV = ConvProblem(Window(8, 24, (3, 3), padding=(1, 1)), "int8", 40)
DECODE = AttentionProblem(
    Rows.of("key", 32, "int4"), Rows.of("value", 32, "int4"), 32**-0.5, group=2, rows=2, planes=2
)
PRODUCT = MatmulProblem(40, 50, rows=37, batch=3)
SUBJECTS: list[tuple[Any, Any, int]] = [
    (LINEAR, replace(default_schedule(LINEAR, "sm_80"), splits=2), 2),
    (CONV, ConvSchedule(1, 1, 16, 16, 64, 2), 3 * 2),
    (DECODE, AttentionSchedule(2, 16, 64, 2, splits=3, share_keys=True), 2 * 3 + 2),
    (PRODUCT, MatmulSchedule(1, 1, 2, 48, 16, 2), 3 * 2 * 2),
]
"""Problems, schedules, and the blocks of their kernels."""


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_backend, "with_binaries", recorded_gpu.sources_as_cubins)
    monkeypatch.setattr(recorded_gpu.LosingDriver, "lost", False)


def task_of(problem: Any) -> Task:
    kinds = {
        LinearProblem: "cuda.linear",
        ConvProblem: "cuda.conv2d",
        AttentionProblem: "cuda.attention",
        MatmulProblem: "cuda.matmul",
    }
    return FAMILIES[kinds[type(problem)]].task(problem, DEVICE, 150)


@pytest.mark.parametrize(("problem", "schedule", "blocks"), SUBJECTS)
def test_a_layer_is_checked_whole_and_its_kernels_alone_are_timed(problem, schedule, blocks):
    drivers: list[Any] = []

    def connect(code: Any) -> Any:
        drivers.append(recorded_gpu.connect(code))
        return drivers[-1]

    backend = recorded_gpu.GpuBackend("cuda:sm_80", "f16", connect=connect)
    task = task_of(problem)
    backend.prepare(task)
    kernel = backend.load(task, backend.build(task, values(schedule)))
    driver = drivers[-1]
    assert kernel.check() == ""
    assert kernel.run().seconds == pytest.approx(blocks * 1e-6)
    [graph] = driver.graphs
    launched = {call[0][1].rsplit("_", 1)[0].partition("_")[0] for call in graph}
    assert launched <= {"linear", "conv", "attention", "fold", "matmul"}
    assert len(graph) >= LEAST_LAUNCHES
    # Each copy has memory of its own, and all of them outgrow the cache.
    copies = {tuple(value for value, kind in call[4] if kind is not None) for call in graph}
    assert sum(block.nbytes for block in driver.memory.values()) > CACHE
    assert len(copies) > 1
    kernel.close()
    assert (driver.memory, driver.graphs, driver.loaded, driver.closed) == ({}, [], [], True)
    assert not drivers[0].closed  # the context stays for the next candidate

    assert backend._data is not None
    backend._data = replace(backend._data, expected=backend._data.expected + 1)
    with_fault = backend.load(task, backend.build(task, values(schedule)))
    assert "results differ" in with_fault.check()
    with_fault.close()


def test_a_lost_context_is_recorded_and_the_process_replaced(tmp_path: Path) -> None:
    task = linear_task(LINEAR, DEVICE)
    good = default_schedule(LINEAR, "sm_80")
    fatal = replace(good, warps_k=1, depth=128, streams=False, stages=2, tokens=8, splits=1)
    assert good.threads != fatal.threads
    options = {"target": "cuda:sm_80", "operands": "f16", "fatal": fatal.threads}
    name = BackendName(recorded_gpu.NAME, options, exclusive=False)
    once = Sampling(least=1, most=1, attempts=1)
    executor = LocalExecutor(name, DeviceLock(tmp_path / "gpu"), sampling=once)
    try:
        found = dict(executor.measure(task, [values(fatal), values(good)]))
        assert [found[place].failure for place in range(2)] == ["runtime", ""]
        assert "ILLEGAL_ADDRESS" in found[0].detail
        assert (found[1].checked, found[1].modelled, found[1].contended) == (True, False, False)
        again = executor.compare(task, [values(good), values(fatal)], 1)
        assert isinstance(again, NotCompared)
        assert again.failed is not None
        assert again.failed.values == values(fatal)
        assert executor._device.starts > 1
    finally:
        executor.close()


def test_tasks_are_those_of_the_gpu_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_choice, "find_gpu", lambda: GPU)
    monkeypatch.setattr(cuda_jobs, "GPU_BACKEND", recorded_gpu.NAME)
    model = str(tmp_path / "model.pt2")
    torch.export.save(torch.export.export(torch.nn.Linear(128, 64), (torch.zeros(8, 128),)), model)
    options = CompileOptions(recipe="int8", target="cuda:sm_80", calibration="random", tokens=8)
    tunable = open_tunable(model, options)
    assert (tunable.device, tunable.modelled) == ("gpu abcd", False)
    [job] = tunable.jobs
    assert job.job.task.device == "sm_80, Recorded 1000"
    judged = open_tunable(model, options, measure="static")
    assert (judged.modelled, judged.jobs[0].job.task.device) == (True, "sm_80, no GPU")
    assert session.make_executor(tunable, session.SessionOptions()).close() is None
    assert Database(tmp_path / "t.db", create=True).measurements(job.job.task) == []


def test_which_gpu_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    sm_80, sm_90a = require_target("cuda:sm_80"), require_target("cuda:sm_90a")
    monkeypatch.setattr(gpu_choice, "find_gpu", lambda: GPU)
    assert chosen_gpu(sm_80, "auto") == chosen_gpu(sm_80, "gpu") == GPU
    assert chosen_gpu(sm_80, "static") is None
    assert chosen_gpu(require_target("cuda:emulate"), "auto") is None
    assert chosen_gpu(sm_90a, "auto") is None
    assert target_here("cuda") == "cuda:sm_80"
    with pytest.raises(UnsupportedError, match="runs no kernels of target 'cuda:sm_90a'"):
        chosen_gpu(sm_90a, "gpu")
    monkeypatch.setattr(gpu_choice, "find_gpu", lambda: None)
    assert chosen_gpu(sm_80, "auto") is None
    for asking in (lambda: chosen_gpu(sm_80, "gpu"), lambda: target_here("cuda")):
        with pytest.raises(ResourceError) as raised:
            asking()
        assert raised.value.code == "tune-no-gpu"


def test_hosts_take_jobs_for_their_own_product(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"target": "cuda:sm_80", "operands": "f16", "gpu": GPU.name}
    backend = BackendName(cuda_jobs.GPU_BACKEND, options, exclusive=False)
    job: Any = SimpleNamespace(backend=backend, task=linear_task(LINEAR, DEVICE))
    for module in (serving, session):
        monkeypatch.setattr(module, "find_gpu", lambda: GPU)
    assert serving.accepts(job)
    session.node_executor(backend, "gpu of another node", session.SessionOptions()).close()
    for other in (None, replace(GPU, name="another")):
        for module in (serving, session):
            monkeypatch.setattr(module, "find_gpu", lambda other=other: other)
        assert not serving.accepts(job)
        with pytest.raises(UnsupportedError, match="has no 'Recorded 1000'"):
            session.node_executor(backend, "", session.SessionOptions())


def test_a_gpu_tells_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "cuInit": (), "cuDeviceGet": (0,), "cuDeviceGetName": (b"A Name\0\0",),
        "cuDeviceGetUuid": (SimpleNamespace(bytes=bytes(range(16))),), "cuDeviceGetAttribute": (9,),
        "cuGetErrorName": (b"NO_DEVICE",), "cuGetErrorString": (b"no device",),
    }  # fmt: skip
    attributes = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=1,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=2,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT=3,
    )

    def api(status: int) -> SimpleNamespace:
        calls = {
            name: (lambda *_, found=found: (status, *found)) for name, found in answers.items()
        }
        return SimpleNamespace(CUdevice_attribute=attributes, **calls)

    monkeypatch.setattr(driver_api, "import_module", lambda name: api(0))
    assert find_gpu() == Gpu("A Name", bytes(range(16)).hex(), 99)
    assert driver_api.DriverApi().processors() == 9
    monkeypatch.setattr(driver_api, "import_module", lambda name: api(100))
    assert find_gpu() is None

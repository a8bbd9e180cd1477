"""Candidates that hang, crash, fill the memory or compute wrong are isolated and recorded."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from qcc.autotune.measure.backend import BackendName, Values
from qcc.autotune.measure.device_lock import DeviceLock
from qcc.autotune.measure.executors.base import NotCompared
from qcc.autotune.measure.executors.local import LocalExecutor, Patience
from qcc.autotune.measure.messages import Build
from qcc.autotune.measure.process import Lost, Worker
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
from qcc.autotune.time_limit import TimeLimit
from qcc.dialects.errors import ResourceError

FAULTY = "tests.autotune.faulty_backend:FaultyBackend"
TASK = Task("fake.kernel", {"n": 3})
PATIENCE = Patience(build=0.7, run=0.7)


@pytest.fixture(scope="module")
def executor(tmp_path_factory) -> Iterator[LocalExecutor]:
    lock = DeviceLock(tmp_path_factory.mktemp("locks") / "device")
    made = LocalExecutor(BackendName(FAULTY), lock, patience=PATIENCE, memory=2 << 30)
    yield made
    made.close()


def measured(executor: LocalExecutor, *configs: Values) -> list[Measurement]:
    found = dict(executor.measure(TASK, configs))
    assert sorted(found) == list(range(len(configs)))
    return [found[place] for place in range(len(configs))]


@pytest.mark.parametrize(
    ("stage", "does", "failure", "detail"),
    [
        ("build", "hang", "timeout", "no answer in 0.7 s"),
        ("build", "crash", "compile", "killed by SIGSEGV"),
        ("build", "memory", "compile", "MemoryError"),
        ("build", "raise", "compile", "ValueError: not today"),
        ("build", "refuse", "constraints", "7 threads are no warp"),
        ("run", "hang", "timeout", "no answer in 0.7 s"),
        ("run", "crash", "runtime", "killed by SIGSEGV"),
        ("run", "memory", "runtime", "MemoryError"),
        ("run", "leave", "runtime", "it ended with code 3: goodbye"),
        ("run", "raise", "runtime", "ValueError: not today"),
        ("run", "wrong", "correctness", "2 of 3 results differ"),
    ],
)
def test_what_candidates_do(executor, stage, does, failure, detail):
    bad, good = measured(executor, {"time": 1, "does": does, "stage": stage}, {"time": 3})
    assert (bad.seconds, bad.failure) == (None, failure)
    assert detail in bad.detail
    assert (good.seconds, good.checked, good.failure) == (3.0, True, "")


def test_a_measurement_tells_how_it_was_made(executor):
    quiet, disturbed = measured(executor, {"time": 0.5}, {"time": 0.25, "disturbed": 1})
    assert quiet.samples >= 5
    assert (quiet.spread, quiet.contended) == (0.0, False)
    assert set(quiet.cost) == {"compilation", "validation", "benchmark"}
    assert (disturbed.contended, disturbed.seconds) == (True, 0.25)


def test_once_the_time_is_up_only_the_first_is_tried(tmp_path):
    past = TimeLimit(end=0.0, clock=lambda: 1.0)
    late = LocalExecutor(BackendName(FAULTY), DeviceLock(tmp_path / "lock"), limit=past)
    with closing(late):
        found = list(late.measure(TASK, [{"time": 2}, {"time": 1}, {"time": 3}]))
        assert [(place, made.seconds) for place, made in found] == [(0, 2.0)]
        assert late.compare(TASK, [{"time": 2}, {"time": 1}], 3) == NotCompared("the time is up")


def failed_again(executor: LocalExecutor, values: Values) -> Measurement:
    """What became of `values` when they were built again to be compared."""
    found = executor.compare(TASK, [{"time": 2}, values], 3)
    assert isinstance(found, NotCompared)
    assert found.failed is not None
    return found.failed


def test_those_that_worked_run_in_turns(executor):
    assert executor.compare(TASK, [{"time": 2}, {"time": 1}], 3) == [[2.0, 1.0]] * 3
    crashing = {"time": 1, "does": "crash", "stage": "build"}
    why = failed_again(executor, crashing)
    assert (why.failure, why.values) == ("compile", crashing)
    wrong = {"time": 1, "does": "wrong", "stage": "run"}
    why = failed_again(executor, wrong)
    assert (why.failure, why.detail, why.values) == ("correctness", "2 of 3 results differ", wrong)
    raising = {"time": 1, "does": "raise", "stage": "run"}
    assert failed_again(executor, raising).failure == "runtime"


def test_what_no_candidate_is_to_blame_for_is_raised(tmp_path):
    name = BackendName(FAULTY, {"refuse": True})
    executor = LocalExecutor(name, DeviceLock(tmp_path / "lock"))
    with pytest.raises(ResourceError, match="no device") as raised:
        list(executor.measure(TASK, [{"time": 1}]))
    assert (raised.value.code, raised.value.next_step) == ("no-device", "plug one in")
    executor.close()


def test_a_killed_worker_is_started_anew():
    worker = Worker(BackendName(FAULTY))
    request = Build(TASK, {"time": 1, "does": "crash", "stage": "build"})
    for _ in range(2):
        with pytest.raises(Lost, match="SIGSEGV"):
            worker.ask(request, seconds=5)
    assert worker.starts == 2
    worker.close()


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_would_disturb_others_is_built_while_they_wait(tmp_path, exclusive):
    """A candidate that is never run needs the device for building only."""
    lock = DeviceLock(tmp_path / "lock")
    executor = LocalExecutor(BackendName(FAULTY, exclusive=exclusive), lock)
    found: list[Measurement] = []
    refused = {"time": 1, "does": "refuse", "stage": "build"}
    thread = threading.Thread(target=lambda: found.extend(measured(executor, refused)))
    with DeviceLock(lock.path).held():
        thread.start()
        end = time.monotonic() + 10
        while not (lock.waited if exclusive else found):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert bool(found) != exclusive
    thread.join()
    assert [each.failure for each in found] == ["constraints"]
    executor.close()


def test_measuring_waits_for_the_other_tuner_of_the_device(tmp_path):
    mine, other = DeviceLock(tmp_path / "lock"), DeviceLock(tmp_path / "lock")
    child = os.fork()
    if child == 0:
        with other.held():
            (tmp_path / "held").touch()
            time.sleep(0.3)
        os._exit(0)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    start = time.monotonic()
    with mine.held():
        assert mine.waited == 1
        assert time.monotonic() - start > 0.05
    os.waitpid(child, 0)

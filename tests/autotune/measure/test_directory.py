"""Many hosts and no server: each job is done once, those of dead hosts by others."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from socket import gethostname

import pytest

from qcc.autotune.measure.backend import BackendName
from qcc.autotune.measure.executors.directory import DirectoryExecutor
from qcc.autotune.measure.executors.serving import serve
from qcc.autotune.measure.executors.shared_folder import (
    ABANDONED,
    ATTEMPTS,
    Job,
    Result,
    SharedFolder,
)
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
from qcc.dialects.errors import ResourceError

TASK, OTHER = Task("fake.kernel", {"n": 3}, device="a"), Task("fake.kernel", {"n": 3}, device="b")
BACKEND = BackendName("tests.autotune.faulty_backend:FaultyBackend")


class Formula:
    """Tries candidates without any process; remembers them."""

    tried: list[int]

    def __init__(self, backend: BackendName) -> None:
        self.tried = []

    def measure(self, task, configs):
        for place, values in enumerate(configs):
            self.tried.append(values["time"])
            yield place, Measurement(values=values, seconds=float(values["time"]), checked=True)

    def compare(self, task, configs, rounds):
        return [[float(values["time"]) for values in configs]] * rounds

    def close(self) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> SharedFolder:
    return SharedFolder(tmp_path / "shared", stale=0.5)


def host(folder: SharedFolder, made: list[Formula], device: str = "a") -> threading.Thread:
    def make(backend: BackendName) -> Formula:
        made.append(Formula(backend))
        return made[-1]

    def work() -> None:
        serve(folder, lambda job: job.task.device == device, make, idle=0.6)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def files(folder: SharedFolder) -> list[str]:
    return [path.name for path in folder.root.rglob("*") if path.is_file()]


def test_hosts_share_the_jobs_and_each_is_done_once(folder):
    made: list[Formula] = []
    hosts = [host(folder, made) for _ in range(3)]
    executor = DirectoryExecutor(folder, BACKEND)
    configs = [{"time": number} for number in range(1, 31)]
    found = dict(executor.measure(TASK, configs))
    assert [found[place].seconds for place in range(30)] == list(range(1, 31))
    assert {each.host for each in found.values()} == {gethostname()}
    assert all(each.when for each in found.values())
    assert executor.compare(TASK, configs[:2], 3) == [[1.0, 2.0]] * 3
    for thread in hosts:
        thread.join()
    assert sorted(time for each in made for time in each.tried) == list(range(1, 31))
    assert files(folder) == []


def test_hosts_leave_jobs_of_other_devices(folder):
    made: list[Formula] = []
    hosts = [host(folder, made, "b")]
    executor = DirectoryExecutor(folder, BACKEND)
    assert len(list(executor.measure(OTHER, [{"time": 1}]))) == 1
    job = folder.post(Job(BACKEND, TASK, [{"time": 2}]))
    for thread in hosts:
        thread.join()
    assert made[0].tried == [1]
    assert list(folder.open_jobs()) == [f"{job}.1"]
    folder.withdraw(job)
    assert files(folder) == []


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_the_job_of_a_dead_host_is_taken_by_another(folder):
    executor = DirectoryExecutor(folder, BACKEND)
    results = executor.measure(TASK, [{"time": 4}])
    waiting = threading.Thread(target=lambda: found.extend(results))
    found: list[tuple[int, Measurement]] = []
    waiting.start()
    while not folder.open_jobs():
        pass
    dead = folder.claim(next(iter(folder.open_jobs())))
    assert dead is not None
    assert folder.claim(dead.path.name) is None
    age(dead.path, 1.0)
    made: list[Formula] = []
    host(folder, made).join()
    waiting.join()
    assert [measurement.seconds for _, measurement in found] == [4.0]
    assert made[0].tried == [4]


def test_a_job_that_no_host_survives_is_a_failure(folder):
    job = folder.post(Job(BACKEND, TASK, [{"time": 4}]))
    for attempt in range(1, ATTEMPTS + 1):
        claim = folder.claim(f"{job}.{attempt}")
        assert claim is not None
        age(claim.path, 1.0)
        folder.reopen_stale()
    result = folder.take(job)
    assert result is not None
    assert result.measurement is not None
    assert result.measurement.failure == "runtime"
    assert files(folder) == []


def test_a_host_that_works_keeps_its_job(folder):
    claim = folder.claim(f"{folder.post(Job(BACKEND, TASK, [{'time': 4}]))}.1")
    assert claim is not None
    age(claim.path, 1.0)
    folder.beat(claim.path)
    folder.reopen_stale()
    assert claim.path.exists()
    assert folder.under_way("a")
    assert not folder.under_way("b")


def test_a_claim_is_fresh_however_long_its_job_waited(folder, monkeypatch):
    """Another host looks for stale claims as soon as the job was renamed."""
    name = f"{folder.post(Job(BACKEND, TASK, [{'time': 4}]))}.1"
    age(folder.jobs / name, 100.0)
    rename = os.rename

    def renamed(source: Path, target: Path) -> None:
        rename(source, target)
        if Path(target).parent == folder.claims:
            folder.reopen_stale()

    monkeypatch.setattr(os, "rename", renamed)
    claim = folder.claim(name)
    assert claim is not None
    assert claim.path.name == name


def test_odd_files_end_nobody(folder):
    for path in (folder.claims / ".nfs0000000012", folder.claims / "abc.3", folder.claims / "x"):
        path.write_bytes(b"{")
        age(path, 100.0)
    (folder.jobs / ".nfs0000000013").write_bytes(b"")
    (folder.results / "def").write_bytes(b"{")
    folder.reopen_stale()
    assert sorted(os.listdir(folder.claims)) == [".nfs0000000012", "x"]
    assert "never heard of again" in folder.take("abc").refused
    assert "no result" in folder.take("def").refused
    assert folder.open_jobs() == {}
    assert not folder.under_way("a")


def test_a_job_that_cannot_be_measured_is_refused_and_hosts_go_on(folder):
    bad = folder.post(Job(BACKEND, TASK, [{"time": 1}, {"time": 2}]))
    invalid = b'{"backend":{"factory":"x"},"task":{"kernel":"","problem":{"n":[]}},"configs":[]}'
    (folder.jobs / "x.1").write_bytes(invalid)
    good = folder.post(Job(BACKEND, TASK, [{"time": 3}]))
    host(folder, []).join()
    assert "unpack" in folder.take(bad).refused
    assert folder.take(good).measurement.seconds == 3.0


def test_who_lost_a_claim_leaves_nothing(folder):
    first = folder.claim(f"{folder.post(Job(BACKEND, TASK, [{'time': 4}]))}.1")
    age(first.path, 1.0)
    folder.reopen_stale()
    second = folder.claim(f"{first.id}.2")
    measured = Result(Measurement(values={"time": 4}, seconds=4.0))
    folder.finish(second.path, measured)
    assert folder.take(first.id) == measured
    folder.finish(first.path, measured)
    assert files(folder) == []


def test_a_host_that_is_killed_as_it_finishes_loses_no_job(folder, monkeypatch):
    claim = folder.claim(f"{folder.post(Job(BACKEND, TASK, [{'time': 4}]))}.1")
    measured = Result(Measurement(values={"time": 4}, seconds=4.0))
    real, steps = (os.rename, Path.unlink), []

    def killed(after: int, step):
        def stepping(*arguments, **options):
            steps.append(step)
            if len(steps) > after:
                raise KeyboardInterrupt
            return step(*arguments, **options)

        return stepping

    for after in range(3):
        steps.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", killed(after, real[0]))
            patch.setattr(Path, "unlink", killed(after, real[1]))
            with suppress(KeyboardInterrupt):
                folder.finish(claim.path, measured)
        there = [path.is_file() for path in (claim.path, folder.results / claim.id)]
        assert there == [after < 2, after > 0]
    assert folder.take(claim.id) == measured


def test_what_is_withdrawn_while_a_host_has_it_is_gone(folder):
    claim = folder.claim(f"{folder.post(Job(BACKEND, TASK, [{'time': 4}]))}.1")
    folder.withdraw(claim.id)
    folder.finish(claim.path, Result(refused="late"))
    assert files(folder) == []


def test_jobs_and_results_of_a_tuner_that_is_gone_are_dropped(folder):
    kept, lost, done = (folder.post(Job(BACKEND, TASK, [{"time": 4}])) for _ in range(3))
    claim = folder.claim(f"{done}.1")
    folder.finish(claim.path, Result(refused="done"))
    for path in (*folder.jobs.iterdir(), *folder.results.iterdir()):
        age(path, ABANDONED * folder.stale)
    folder.keep([kept])
    folder.reopen_stale()
    assert files(folder) == [f"{kept}.1"]
    assert lost not in " ".join(folder.open_jobs())


def test_what_is_not_waited_for_is_withdrawn(folder):
    """As when the time is up: results of the others would come too late."""
    executor = DirectoryExecutor(folder, BACKEND)
    waiting = executor.measure(TASK, [{"time": 1}, {"time": 2}, {"time": 3}])
    first = threading.Thread(
        target=lambda: serve(folder, lambda job: job.configs[0]["time"] == 2, Formula, idle=0.6)
    )
    first.start()
    place, _ = next(waiting)
    assert (place, len(folder.open_jobs())) == (1, 2)
    waiting.close()
    first.join()
    assert list(folder.open_jobs()) == []
    assert executor._waiting == {}


def test_a_tuner_that_waits_keeps_its_jobs(folder, monkeypatch):
    kept: list[str] = []
    monkeypatch.setattr(folder, "keep", kept.extend)
    executor = DirectoryExecutor(folder, BACKEND, patience=0.2)
    with pytest.raises(ResourceError, match="no host"):
        list(executor.measure(TASK, [{"time": 1}]))
    assert [f"{job}.1" for job in kept] == list(folder.open_jobs())
    executor.close()


def test_what_killed_processes_were_writing_is_swept(folder):
    for name, seconds in ((".new-1", 1.0), (".clock-1-2", 1.0), (".new-2", 0.0)):
        (folder.root / name).touch()
        age(folder.root / name, seconds)
    folder.reopen_stale()
    assert files(folder) == [".new-2"]


def test_an_idle_host_looks_seldom_and_reads_each_job_once(folder, monkeypatch):
    folder.post(Job(BACKEND, OTHER, [{"time": 1}]))
    looks, reads = [], []
    monkeypatch.setattr(folder, "reopen_stale", lambda: looks.append(1))
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or read(path))
    host(folder, []).join()
    assert (len(looks), len(reads)) == (2, 1)


def test_nobody_serves(folder):
    executor = DirectoryExecutor(folder, BACKEND, patience=0.3)
    with pytest.raises(ResourceError, match="no host took a job"):
        list(executor.measure(TASK, [{"time": 1}]))
    executor.close()
    assert files(folder) == []


def test_what_is_no_job_is_refused_and_a_folder_must_be_one(folder, tmp_path):
    (folder.jobs / "x.1").write_text("{}")
    assert folder.open_jobs() == {}
    assert folder.claim("x.1") is None
    assert folder.take("x") == Result(refused=folder_error(folder))
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be used to share work"):
        SharedFolder(tmp_path / "file")


def folder_error(folder: SharedFolder) -> str:
    return "no job: Object missing required field `backend`"

"""A host that takes jobs from a shared folder, one at a time, and tries them by an executor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ...measurement import made_here
from ..backend import BackendName
from .base import Executor, NotCompared
from .directory import LOOK, POLL
from .shared_folder import BEAT, Claim, Job, Result, SharedFolder

Accepts = Callable[[Job], bool]
Tell = Callable[[str], None]


def serve(
    folder: SharedFolder,
    accepts: Accepts,
    make: Callable[[BackendName], Executor],
    idle: float | None = None,
    tell: Tell = lambda text: None,
) -> int:
    """
    Work until no job came for `idle` seconds, for ever if that is None; how many jobs were done.

    Jobs that are not for this host's devices are left to others. A job names a backend, and
    `accepts` must refuse all that this host does not know: the folder's other users choose it.
    """
    executors: dict[bytes, Executor] = {}
    done, last, looked = 0, time.monotonic(), float("-inf")
    try:
        while idle is None or time.monotonic() - last < idle:
            claim = _next_claim(folder, accepts)
            if claim is None:
                if time.monotonic() - looked >= min(LOOK, folder.stale):
                    folder.reopen_stale()
                    looked = time.monotonic()
                time.sleep(POLL)
                continue
            with _beating(folder, claim.path):
                result = _result(claim.job, executors, make)
            folder.finish(claim.path, result)
            done, last = done + 1, time.monotonic()
            tell(f"{done} done, the last {claim.job.task.text}")
    finally:
        for executor in executors.values():
            executor.close()
    return done


def _next_claim(folder: SharedFolder, accepts: Accepts) -> Claim | None:
    for name, job in folder.open_jobs().items():
        if accepts(job):
            claim = folder.claim(name)
            if claim is not None:
                return claim
    return None


def _result(
    job: Job, executors: dict[bytes, Executor], make: Callable[[BackendName], Executor]
) -> Result:
    key = msgspec.json.encode(job.backend)
    try:
        if key not in executors:
            executors[key] = make(job.backend)
        if job.rounds:
            rounds = executors[key].compare(job.task, job.configs, job.rounds)
            if isinstance(rounds, NotCompared):
                return Result(rounds.failed and made_here(rounds.failed), refused=rounds.why)
            return Result(rounds=rounds)
        ((_, measurement),) = executors[key].measure(job.task, job.configs)
    except Exception as error:  # noqa: BLE001 - a job must not end its hosts, one after the other
        return Result(refused=str(error))
    return Result(made_here(measurement))


@contextmanager
def _beating(folder: SharedFolder, claim: Path) -> Iterator[None]:
    """However long a candidate takes, its claim stays fresh."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            folder.beat(claim)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()

"""
Candidates tried on this machine: built by several workers, run by one that has the device.

A worker that a candidate crashes or hangs is killed and started anew; the candidate's measurement
says so. Where building would disturb the device, a batch is built before any of it is run, and
while no other tuner measures.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext

import msgspec

from ....dialects.errors import ResourceError
from ...measurement import Measurement
from ...task import Task
from ...time_limit import ENDLESS, TimeLimit
from ..backend import BackendName, Values
from ..device_lock import DeviceLock
from ..messages import Build, Built, Compare, Compared, Measure, Measured, Prepare
from ..process import Lost, Worker
from ..sampling import Sampling
from .base import NotCompared, Rounds


class Patience(msgspec.Struct, frozen=True):
    """Seconds that a candidate may take to build and to run; that preparing a task may take."""

    build: float = 120.0
    run: float = 60.0
    prepare: float = 600.0


PATIENCE, SAMPLING = Patience(), Sampling()


class LocalExecutor:
    """Once `limit` is over no candidate is begun but the first of a batch."""

    def __init__(
        self,
        backend: BackendName,
        lock: DeviceLock,
        *,
        builders: int = 1,
        patience: Patience = PATIENCE,
        sampling: Sampling = SAMPLING,
        memory: int = 0,
        limit: TimeLimit = ENDLESS,
    ) -> None:
        self._backend, self._lock, self._memory, self._limit = backend, lock, memory, limit
        self._patience, self._sampling = patience, sampling
        self._device = Worker(backend, memory)
        self._prepared: tuple[str, int] | None = None
        self._pool = ThreadPoolExecutor(builders, "build")
        self._own = threading.local()
        self._builders: list[Worker] = []

    def measure(self, task: Task, configs: Sequence[Values]) -> Iterator[tuple[int, Measurement]]:
        building: dict[Future, int] = {}
        try:
            with self._undisturbing():
                for place, values in enumerate(configs):
                    build = self._build if place == 0 else self._build_in_time
                    building[self._pool.submit(build, task, values)] = place
                if self._backend.exclusive:
                    for future in building:
                        future.result()
            for future in as_completed(building):
                built = future.result()
                place = building[future]
                if isinstance(built, Measurement):
                    yield place, built
                elif built is not None:
                    yield place, self._measured(task, configs[place], built)
        finally:
            for future in building:
                future.cancel()

    def compare(self, task: Task, configs: Sequence[Values], rounds: int) -> Rounds | NotCompared:
        data = []
        with self._undisturbing():
            for values in configs:
                built = self._build(task, values) if not data else self._build_in_time(task, values)
                if built is None:
                    return NotCompared("the time is up")
                if isinstance(built, Measurement):
                    return NotCompared.of(built)
                data.append(built.data)
        seconds = max(self._patience.run, min(self._patience.run * len(data), self._limit.left))
        request = Compare(task, [dict(values) for values in configs], rounds)
        try:
            with self._lock.held():
                self._prepare(task)
                reply, _ = self._device.ask(request, data, seconds=seconds)
        except Lost as lost:
            return NotCompared(str(lost))
        assert isinstance(reply, Compared)
        self._restart_if(reply.lost)
        return NotCompared.of(reply.failed) if reply.failed else reply.seconds

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in (self._device, *self._builders):
            worker.close()

    def _undisturbing(self) -> AbstractContextManager[None]:
        """In which to build: where that would disturb what other tuners measure, not meanwhile."""
        return self._lock.held() if self._backend.exclusive else nullcontext()

    def _build(self, task: Task, values: Values) -> Candidate | Measurement:
        """In a thread of the pool, which has a worker of its own."""
        if not hasattr(self._own, "worker"):
            self._own.worker = Worker(self._backend, self._memory)
            self._builders.append(self._own.worker)
        try:
            reply, data = self._own.worker.ask(
                Build(task, dict(values)), seconds=self._patience.build
            )
        except Lost as lost:
            return _lost(values, lost, "compile", self._patience.build)
        if isinstance(reply, Measured):
            return reply.measurement
        assert isinstance(reply, Built)
        return Candidate(data[0], reply.seconds)

    def _build_in_time(self, task: Task, values: Values) -> Candidate | Measurement | None:
        return None if self._limit.over else self._build(task, values)

    def _measured(self, task: Task, values: Values, built: Candidate) -> Measurement:
        try:
            with self._lock.held():
                self._prepare(task)
                reply, _ = self._device.ask(
                    Measure(task, dict(values), self._sampling),
                    [built.data],
                    seconds=self._patience.run,
                )
        except Lost as lost:
            return _lost(values, lost, "runtime", self._patience.run)
        assert isinstance(reply, Measured)
        self._restart_if(reply.lost)
        cost = {"compilation": built.seconds, **reply.measurement.cost}
        return msgspec.structs.replace(reply.measurement, cost=cost)

    def _restart_if(self, lost: bool) -> None:
        """Nothing more runs in the process: the next question starts another."""
        if lost:
            self._device.kill()

    def _prepare(self, task: Task) -> None:
        """What was prepared is gone with the process that had it."""
        self._device.start()
        if self._prepared == (task.key, self._device.starts):
            return
        try:
            self._device.ask(Prepare(task), seconds=self._patience.prepare)
        except Lost as lost:
            raise ResourceError(
                "tune-prepare",
                "the data of a task cannot be made",
                where=task.text,
                why=str(lost),
                next_step="tune it on a machine with more memory, or with --memory",
            ) from lost
        self._prepared = task.key, self._device.starts


class Candidate(msgspec.Struct, frozen=True):
    data: bytes
    seconds: float


def _lost(values: Values, lost: Lost, failure: str, patience: float) -> Measurement:
    if lost.hung:
        detail = f"no answer in {patience:g} s"
        return Measurement(values=dict(values), failure="timeout", detail=detail)
    return Measurement(values=dict(values), failure=failure, detail=str(lost))

"""Candidates tried by whatever hosts serve a shared folder: posted as jobs, results awaited."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from ....dialects.errors import ResourceError
from ...measurement import Measurement
from ...task import Task
from ..backend import BackendName, Values
from .base import NotCompared, Rounds
from .shared_folder import Job, Result, SharedFolder

POLL = 0.1
PATIENCE = 60.0
LOOK = 5.0


@dataclass
class DirectoryExecutor:
    """`patience`: seconds that jobs may wait while no host is at work on their device."""

    folder: SharedFolder
    backend: BackendName
    patience: float = PATIENCE
    _waiting: dict[str, int] = field(default_factory=dict)

    def measure(
        self, task: Task, configs: Sequence[Values]
    ) -> Generator[tuple[int, Measurement], None, None]:
        for place, values in enumerate(configs):
            self._waiting[self.folder.post(Job(self.backend, task, [dict(values)]))] = place
        try:
            for place, result in self._results(task):
                if result.measurement is None:
                    raise ResourceError(
                        "tune-host",
                        "a host refused a job",
                        where=str(self.folder.root),
                        why=result.refused,
                        next_step="serve the folder with the same version of qcc everywhere",
                    )
                yield place, result.measurement
        except GeneratorExit:
            self._withdraw()
            raise

    def compare(self, task: Task, configs: Sequence[Values], rounds: int) -> Rounds | NotCompared:
        """On one host, whichever takes it."""
        job = Job(self.backend, task, [dict(values) for values in configs], rounds)
        self._waiting[self.folder.post(job)] = 0
        (_, result), *_ = self._results(task)
        if result.rounds:
            return result.rounds
        return NotCompared(result.refused or "no host compared them", result.measurement)

    def close(self) -> None:
        self._withdraw()

    def _withdraw(self) -> None:
        for job in self._waiting:
            self.folder.withdraw(job)
        self._waiting.clear()

    def _results(self, task: Task) -> Iterator[tuple[int, Result]]:
        busy = looked = time.monotonic()
        while self._waiting:
            for job, place in list(self._waiting.items()):
                result = self.folder.take(job)
                if result is not None:
                    del self._waiting[job]
                    busy = time.monotonic()
                    yield place, result
            now = time.monotonic()
            if now - looked >= min(LOOK, self.patience):
                looked = now
                self.folder.keep(self._waiting)
                self.folder.reopen_stale()
                busy = now if self.folder.under_way(task.device) else busy
                self._expect_somebody(now - busy)
            if self._waiting:
                time.sleep(POLL)

    def _expect_somebody(self, seconds: float) -> None:
        if seconds >= self.patience:
            raise ResourceError(
                "tune-no-host",
                f"no host took a job from '{self.folder.root}' for {seconds:.0f} s",
                why="none serves the folder, or none has the device of the task",
                next_step="on each host: qcc tune --serve FOLDER; then go on with --resume",
            )

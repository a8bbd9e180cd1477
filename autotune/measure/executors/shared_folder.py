"""
Jobs that hosts take from a folder they share; no server, no locks, no database.

    jobs/ID.ATTEMPT      open: whoever renames it to claims/ has it
    claims/ID.ATTEMPT    under way: its host touches it; untouched for long, it is open again
    results/ID           what came of it, written beside and renamed

Renaming is atomic on the file systems that hosts share, so each claim has one winner. Ages are
told by the clock of the folder, never by that of a host. Files hold JSON and nothing is executed.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ....dialects.errors import ResourceError
from ....dialects.knobs import Value
from ...measurement import Measurement
from ...task import Task
from ..backend import BackendName
from .base import Rounds

STALE, BEAT = 60.0, 5.0
"""Seconds until a claim that nobody touched is open again, and between touches."""
ATTEMPTS = 3


class Job(msgspec.Struct, frozen=True):
    """Measure the only config, or compare several in `rounds`."""

    backend: BackendName
    task: Task
    configs: list[dict[str, Value]]
    rounds: int = 0


class Result(msgspec.Struct, frozen=True):
    """One of them: of measuring, of comparing, or why comparing was not possible."""

    measurement: Measurement | None = None
    rounds: Rounds | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that is ours as long as `path` is there and touched."""

    path: Path
    job: Job

    @property
    def id(self) -> str:
        return self.path.name.partition(".")[0]


class SharedFolder:
    """Raises ResourceError where the folder cannot be made or written."""

    def __init__(self, root: Path, stale: float = STALE) -> None:
        self.root, self.stale = root, stale
        self.jobs, self.claims, self.results = (
            root / name for name in ("jobs", "claims", "results")
        )
        try:
            for folder in (self.jobs, self.claims, self.results):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                "tune-folder",
                f"'{root}' cannot be used to share work",
                why=error.strerror or str(error),
                next_step="name a folder that all hosts can write",
            ) from error

    def post(self, job: Job) -> str:
        """Open a job; its id."""
        name = uuid.uuid4().hex
        self._write(self.jobs / f"{name}.1", msgspec.json.encode(job))
        return name

    def claim(self, job: str) -> Claim | None:
        """The open job of file name `job`, if nobody else was quicker and it is one."""
        path = self.claims / job
        try:
            os.rename(self.jobs / job, path)
            os.utime(path)
            return Claim(path, msgspec.json.decode(path.read_bytes(), type=Job))
        except OSError:
            return None
        except msgspec.MsgspecError as error:
            self.finish(path, Result(refused=f"no job: {error}"))
            return None

    def open_jobs(self) -> dict[str, Job]:
        """Those that can be read, by file name."""
        found = {}
        for path in sorted(self.jobs.iterdir(), key=lambda each: each.name):
            with suppress(OSError, msgspec.MsgspecError):
                found[path.name] = msgspec.json.decode(path.read_bytes(), type=Job)
        return found

    def finish(self, claim: Path, result: Result) -> None:
        self._write(self.results / claim.name.partition(".")[0], msgspec.json.encode(result))
        claim.unlink(missing_ok=True)

    def take(self, job: str) -> Result | None:
        """The result of a job of ours, once."""
        path = self.results / job
        try:
            result = msgspec.json.decode(path.read_bytes(), type=Result)
        except FileNotFoundError:
            return None
        path.unlink(missing_ok=True)
        return result

    def withdraw(self, job: str) -> None:
        """Nobody needs it any more."""
        for folder in (self.jobs, self.results):
            for path in folder.glob(f"{job}*"):
                path.unlink(missing_ok=True)

    def reopen_stale(self) -> None:
        """Jobs of hosts that are gone; after ATTEMPTS of them the job is held to be at fault."""
        now = self._now()
        for path in self.claims.iterdir():
            name, _, attempt = path.name.partition(".")
            with suppress(OSError):
                if now - path.stat().st_mtime < self.stale:
                    continue
                if int(attempt) < ATTEMPTS:
                    os.rename(path, self.jobs / f"{name}.{int(attempt) + 1}")
                else:
                    self._give_up(path)

    def _give_up(self, path: Path) -> None:
        job = msgspec.json.decode(path.read_bytes(), type=Job)
        detail = f"{ATTEMPTS} hosts that had it were never heard of again"
        failed = Measurement(values=job.configs[0], failure="runtime", detail=detail)
        self.finish(path, Result(refused=detail) if job.rounds else Result(failed))

    @staticmethod
    def beat(claim: Path) -> None:
        """Its host is alive and at work on it."""
        with suppress(OSError):
            os.utime(claim)

    def under_way(self) -> bool:
        """Whether any host is at work."""
        return any(self.claims.iterdir())

    def _now(self) -> float:
        """By the clock that dates the folder's files."""
        path = self.root / f".clock-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        path.touch()
        try:
            return path.stat().st_mtime
        finally:
            path.unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        """Whole or not at all, and on disk."""
        spare = self.root / f".new-{uuid.uuid4().hex}"
        with spare.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(spare, path)

"""
Jobs that hosts take from a folder they share; no server, no locks, no database.

    jobs/ID.ATTEMPT      open: whoever renames it to claims/ has it; its tuner touches it
    claims/ID.ATTEMPT    under way: its host touches it; untouched for long, it is open again
    results/ID           what came of it, written beside and renamed

Renaming is atomic on the file systems that hosts share, so each claim has one winner. Ages are
told by the clock of the folder, never by that of a host. Files hold JSON and nothing is executed.
Files of other names are left alone: network file systems make some.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ....dialects.errors import ResourceError, UsageError
from ....dialects.knobs import Value
from ...measurement import Measurement
from ...task import Task
from ..backend import BackendName
from .base import Rounds

STALE, BEAT = 60.0, 5.0
"""Seconds until a claim that nobody touched is open again, and between touches."""
ATTEMPTS = 3
ABANDONED = 10
"""Times as long as that, and an open job or a result has no tuner any more."""
_NAME = re.compile(r"(\w+)\.([1-9][0-9]*)")
_UNREADABLE = (msgspec.MsgspecError, UsageError, UnicodeDecodeError)


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
        self._seen: dict[str, Job] = {}
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
        os.rename(self._spare(msgspec.json.encode(job)), self.jobs / f"{name}.1")
        return name

    def claim(self, job: str) -> Claim | None:
        """The open job of file name `job`, if nobody else was quicker and it is one."""
        path = self.claims / job
        try:
            # Renaming keeps the time of posting: a job that waited long would be stale at once.
            os.utime(self.jobs / job)
            os.rename(self.jobs / job, path)
            return Claim(path, msgspec.json.decode(path.read_bytes(), type=Job))
        except OSError:
            return None
        except _UNREADABLE as error:
            self.finish(path, Result(refused=f"no job: {error}"))
            return None

    def open_jobs(self) -> dict[str, Job]:
        """Those that can be read, by file name."""
        found = {}
        for name in sorted(filter(_NAME.fullmatch, os.listdir(self.jobs))):
            if name in self._seen:
                found[name] = self._seen[name]
                continue
            with suppress(OSError, *_UNREADABLE):
                found[name] = msgspec.json.decode((self.jobs / name).read_bytes(), type=Job)
        self._seen = found
        return dict(found)

    def finish(self, claim: Path, result: Result) -> None:
        """
        Nothing where the claim was lost to another host, or its tuner withdrew the job.

        The result is there before the claim is gone: who is killed between loses no job. A second
        result of a job that was lost just then is swept.
        """
        if not claim.exists():
            return
        spare = self._spare(msgspec.json.encode(result))
        os.rename(spare, self.results / claim.name.partition(".")[0])
        claim.unlink(missing_ok=True)

    def take(self, job: str) -> Result | None:
        """The result of a job of ours, once."""
        path = self.results / job
        try:
            result = msgspec.json.decode(path.read_bytes(), type=Result)
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            result = Result(refused=f"no result: {error}")
        self.withdraw(job)
        return result

    def keep(self, jobs: Iterable[str]) -> None:
        """Jobs of ours are still awaited."""
        for job in jobs:
            for path in self.jobs.glob(f"{job}.*"):
                self.beat(path)

    def withdraw(self, job: str) -> None:
        """Nobody needs it any more."""
        for folder in (self.jobs, self.claims, self.results):
            for path in folder.glob(f"{job}*"):
                path.unlink(missing_ok=True)

    def reopen_stale(self) -> None:
        """Jobs of hosts that are gone; after ATTEMPTS of them the job is held to be at fault."""
        now = self._now()
        for name in filter(_NAME.fullmatch, os.listdir(self.claims)):
            job, attempt = name.split(".")
            path = self.claims / name
            with suppress(OSError):
                if now - path.stat().st_mtime < self.stale:
                    continue
                if int(attempt) < ATTEMPTS:
                    os.rename(path, self.jobs / f"{job}.{int(attempt) + 1}")
                else:
                    self._give_up(path)
        self._sweep(now)

    def _sweep(self, now: float) -> None:
        """What killed processes left: unfinished files; jobs and results that nobody awaits."""
        unfinished = (*self.root.glob(".new-*"), *self.root.glob(".clock-*"))
        awaited = (*self.jobs.glob("[!.]*"), *self.results.glob("[!.]*"))
        for paths, patience in ((unfinished, self.stale), (awaited, ABANDONED * self.stale)):
            for path in paths:
                with suppress(OSError):
                    if now - path.stat().st_mtime >= patience:
                        path.unlink()

    def _give_up(self, path: Path) -> None:
        detail = f"{ATTEMPTS} hosts that had it were never heard of again"
        result = Result(refused=detail)
        with suppress(*_UNREADABLE):
            job = msgspec.json.decode(path.read_bytes(), type=Job)
            if len(job.configs) == 1:
                values = job.configs[0]
                failed = Measurement(values=values, failure="runtime", detail=detail)
                result = Result(failed)
        self.finish(path, result)

    @staticmethod
    def beat(path: Path) -> None:
        """The host of a claim, or the tuner of a job, is alive."""
        with suppress(OSError):
            os.utime(path)

    def under_way(self, device: str) -> bool:
        """Whether a host is at work on a job for `device`: it will come to the others."""
        for path in self.claims.iterdir():
            with suppress(OSError, *_UNREADABLE):
                if msgspec.json.decode(path.read_bytes(), type=Job).task.device == device:
                    return True
        return False

    def _now(self) -> float:
        """By the clock that dates the folder's files."""
        path = self.root / f".clock-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        path.touch()
        try:
            return path.stat().st_mtime
        finally:
            path.unlink(missing_ok=True)

    def _spare(self, data: bytes) -> Path:
        """A file on disk, to be renamed: so others see it whole or not at all."""
        spare = self.root / f".new-{uuid.uuid4().hex}"
        with spare.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return spare

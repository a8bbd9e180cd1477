"""
`qcc tune --replay`: a space that was measured before, searched as if it were a device.

Nothing is built or stored, so that a search can be tried on any recording in seconds. Recordings
beside the first, of other devices or shapes of the same knobs, teach the search before it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...autotune.database import Collection, Entry
from ...autotune.measure.executors.recorded import RecordedExecutor
from ...autotune.measurement import Measurement
from ...autotune.prior import learns, with_prior
from ...autotune.recorded import Recording, read_recording
from ...autotune.related import Related
from ...autotune.search.base import Strategy
from ...autotune.stop import Confident
from ...autotune.task import Task
from ...autotune.trials import Trial, Trials
from ...autotune.tune import Stop, tune
from ...autotune.tuned import Job, Tuned, TuneOptions
from ...dialects.errors import UsageError
from ..console import table
from .session import SessionOptions

SHARES = (0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a search found in a recording, after how many measurements."""

    tuned: Tuned
    recording: Recording

    @property
    def share(self) -> float:
        """The optimum's seconds over the best found."""
        best = self.tuned.trials.best
        return 0.0 if best is None or not best.seconds else self.recording.optimum / best.seconds

    def until(self, share: float) -> int | None:
        """How many measurements it took to come within `share` of the optimum; None: not there."""
        enough = self.tuned.trials.best_so_far() <= self.recording.optimum / share
        return int(np.argmax(enough)) + 1 if enough.any() else None


@dataclass
class _Kept:
    """Records of one replay, in memory."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, task: Task, measurements: Sequence[Measurement]) -> int:
        self.entries += [Entry(task, each) for each in measurements]
        return len(measurements)

    def measurements(self, task: Task) -> list[Measurement]:
        return Collection(self.entries).measurements(task)


def replay(paths: Sequence[Path], strategy: Strategy, options: SessionOptions) -> Replayed:
    """Search the first recording; raises IntegrityError for files that are none."""
    first, *others = (read_recording(path) for path in paths)
    space = first.space
    task = Task("replay", {"space": space.name}, device=first.device)
    related = tuple(_related(space.names, each, first) for each in others)
    job = Job(task, space, space.values(_start(first)), others=related if learns(strategy) else ())
    search = with_prior(strategy, others=[each.trials for each in job.others])
    rules: list[Stop] = []
    if options.confidence:
        rng = np.random.default_rng(options.seed)
        rules.append(Confident(space, rng, confidence=options.confidence))
    how = TuneOptions(options.trials, strategy.name, options.seed)
    return Replayed(tune(job, search, RecordedExecutor(first), _Kept(), rules, how), first)


def _start(recording: Recording) -> tuple[int, ...]:
    """A recording has no default: the first config that worked stands for one."""
    worked = np.flatnonzero(~np.isnan(recording.seconds))
    return tuple(recording.configs[worked[0]].tolist())


def _related(names: tuple[str, ...], other: Recording, first: Recording) -> Related:
    if other.space.names != names:
        raise UsageError(
            "replay-knobs",
            f"'{other.space.name}' has other knobs than '{first.space.name}'",
            why=f"{', '.join(other.space.names)}; not {', '.join(names)}",
            next_step="name recordings of the same kernel after the first one",
        )
    trials: list[Trial] = []
    known = {knob.name: set(knob.values) for knob in first.space.knobs}
    for made in other.measure(other.configs):
        values = other.space.values(made.config)
        if all(values[name] in known[name] for name in names):
            trials.append(Trial(first.space.config(values), made.seconds, made.failure))
    legal = first.space.legal(Trials(trials).configs)
    kept = [trial for trial, good in zip(trials, legal, strict=True) if good]
    return Related(Task("replay", {"space": other.space.name}, device=other.device), Trials(kept))


def replay_report(found: Replayed) -> tuple[dict[str, Any], str]:
    """For programs and for people."""
    tuned, recording = found.tuned, found.recording
    best = tuned.trials.best
    row = {
        "space": recording.space.name,
        "device": recording.device,
        "configs": len(recording.configs),
        "trials": len(tuned.trials),
        "best_s": best.seconds if best else None,
        "optimum_s": recording.optimum,
        "of_optimum": found.share,
        **{f"until_{share:.0%}": found.until(share) for share in SHARES},
        "values": recording.space.values(best.config) if best else {},
        "stopped": tuned.stopped,
        "learnt_from": {
            str(each.task.problem["space"]): len(each.trials) for each in tuned.job.others
        },
    }
    shown = row | {"of_optimum": f"{found.share:.3f}"}
    columns = [name for name in row if name not in ("values", "learnt_from")]
    values = " ".join(f"{name}={value}" for name, value in row["values"].items())
    return row, f"{table([shown], columns)}\nbest: {values}"

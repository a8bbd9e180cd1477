"""
The tuning loop: propose, measure, record, until enough; then the fastest against the default.

Every measurement is recorded as it comes, and what was recorded before is not measured again, so
a tuner that was killed goes on where it was. The default config is measured first, and again
beside the fastest: it is replaced only by one that is clearly faster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

from ..dialects.errors import UsageError
from ..dialects.knobs import Configs, Space, Value
from .choice import CHOSEN, FINALIST, chosen, clear_winner, sound
from .draw import legal_share
from .measure.executors.base import Executor, NotCompared, Rounds
from .measure.sampling import spread
from .measurement import Measurement, made_here, trials_of
from .related import Related
from .task import Task
from .trials import Trial, Trials

if TYPE_CHECKING:  # what measures needs none of the packages of searches
    from .search.base import Search

DEFAULT, NEIGHBOUR = "default", "neighbour"
Stop = Callable[[Trials], str | None]
"""Why tuning may stop now, None to go on."""
Make = Callable[[Space, np.random.Generator], "Search"]


class Records(Protocol):
    """Where measurements are kept."""

    def add(self, task: Task, measurements: Sequence[Measurement]) -> int: ...

    def measurements(self, task: Task) -> list[Measurement]: ...


@dataclass(frozen=True, slots=True)
class Job:
    """
    A task, what can be chosen, and what is used unless something is clearly faster.

    `starts` are tried first: what was best for similar tasks, where this space has it. `prior`
    names the number that the space derives which is known to be near the seconds, if there is one.
    `others` are tasks whose trials the search learns from before its own.
    """

    task: Task
    space: Space
    default: Mapping[str, Value]
    starts: tuple[Mapping[str, Value], ...] = ()
    prior: str = ""
    others: tuple[Related, ...] = ()


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """
    `trials` of a task, to `resume` with those recorded before included; `strategy` names the
    search in records. `batch` configs are proposed at a time; the `finalists` fastest are compared
    with the default in `rounds`, and must win by `margin`.
    """

    trials: int
    strategy: str
    seed: int = 0
    batch: int = 8
    finalists: int = 3
    rounds: int = 15
    margin: float = 0.02
    resume: bool = False


@dataclass(slots=True)
class Tuned:
    """
    What is known of a job. `best` are the values to use; `seconds` theirs and `default_seconds`
    the default's, measured in turns if `note` does not say why not.
    """

    job: Job
    trials: Trials
    repeated: int
    """Trials that were recorded before."""
    legal_share: float
    best: dict[str, Value] = field(default_factory=dict)
    seconds: float | None = None
    default_seconds: float | None = None
    stopped: str = ""
    note: str = ""

    @property
    def measured(self) -> int:
        return len(self.trials) - self.repeated

    @property
    def failures(self) -> dict[str, int]:
        return dict(Counter(each.failure for each in self.trials.trials if each.failure))

    @property
    def speedup(self) -> float | None:
        """The default's seconds over the winner's; None where nothing was compared."""
        if self.default_seconds is None or self.seconds is None:
            return None
        return self.default_seconds / self.seconds

    @property
    def kept_default(self) -> bool:
        return self.best == dict(self.job.default)


Watch = Callable[[Tuned, Measurement], None]


def _recorded_trials(space: Space, known: Sequence[Measurement]) -> list[Trial]:
    """
    What need not be tried again: single measurements, not times of results that nobody checked,
    which an import may bring.
    """
    compared = (CHOSEN, FINALIST)
    single = [each for each in known if each.strategy not in compared or not each.worked]
    return trials_of(space, [each for each in single if each.checked or not each.worked])


def tune(
    job: Job,
    make: Make,
    executor: Executor,
    records: Records,
    stop: Sequence[Stop],
    options: TuneOptions,
    watch: Watch = lambda tuned, latest: None,
) -> Tuned:
    """Tune one task; whatever interrupts it, what was measured is in `records`."""
    return _Tuning(job, executor, records, options, watch).run(make, stop)


class _Tuning:
    def __init__(
        self, job: Job, executor: Executor, records: Records, options: TuneOptions, watch: Watch
    ) -> None:
        self.job, self.executor, self.records = job, executor, records
        self.options, self.watch = options, watch
        known = records.measurements(job.task)
        trials = Trials(_recorded_trials(job.space, known))
        unchecked = [each for each in known if each.worked and not each.checked]
        fastest = sorted(unchecked, key=lambda each: each.seconds or 0.0)
        self.starts = [*job.starts, *(each.values for each in fastest[: options.finalists])]
        checked = sound(known)
        self.former = chosen(checked)
        self.modelled = any(each.modelled for each in checked)
        self.most = options.trials + (0 if options.resume else len(trials))
        self.tuned = Tuned(job, trials, len(trials), legal_share(job.space))
        self.unfit: set[tuple[int, ...]] = set()

    def run(self, make: Make, stop: Sequence[Stop]) -> Tuned:
        tuned, space = self.tuned, self.job.space
        # A search that goes on must not draw what it drew at first.
        seeds = [self.options.seed, int(self.job.task.key, 16), len(tuned.trials)]
        search = make(space, np.random.default_rng(seeds))
        self._measure_default()
        self._measure(self._starts(), NEIGHBOUR)
        while not (reason := self._reason(stop)):
            left = self.most - len(tuned.trials)
            configs = search.propose(tuned.trials, min(self.options.batch, left))
            if not len(configs):
                reason = "every legal config was tried"
                break
            self._measure(configs, self.options.strategy)
        tuned.stopped = reason
        if self.former is None or tuned.measured:
            self._decide()
        else:
            tuned.best, tuned.seconds = dict(self.former.values), self.former.seconds
            tuned.note = "decided before"
        return tuned

    def _reason(self, stop: Sequence[Stop]) -> str:
        """Why to stop now; empty to go on."""
        trials = self.tuned.trials
        if len(trials) >= self.most:
            return f"all {len(trials)} trials were made"
        return next(filter(None, (rule(trials) for rule in stop)), "")

    def _measure_default(self) -> None:
        config = np.array([self.job.space.config(self.job.default)])
        if not any(trial.config == tuple(config[0]) for trial in self.tuned.trials.trials):
            self._measure(config, DEFAULT)

    def _starts(self) -> Configs:
        """The job's starts, and the fastest that nobody checked, that are legal here and new."""
        space, known = self.job.space, {trial.config for trial in self.tuned.trials.trials}
        found = [_found(space, values) for values in self.starts]
        new = [config for config in dict.fromkeys(found) if config and config not in known]
        configs = np.array(new, np.int64).reshape(-1, len(space.knobs))
        left = max(0, self.most - len(self.tuned.trials))
        return configs[space.legal(configs)][:left]

    def _measure(self, configs: Configs, strategy: str) -> None:
        """Legal ones on the device; of others the reasons are recorded, and nothing is built."""
        task, space = self.job.task, self.job.space
        legal = space.legal(configs)
        for config in configs[~legal]:
            why = "; ".join(space.broken(config)) or "not one of the space"
            self._record(
                Measurement(values=space.values(config), failure="constraints", detail=why),
                strategy,
            )
        values = [space.values(config) for config in configs[legal]]
        for _, measurement in self.executor.measure(task, values):
            self._record(measurement, strategy)

    def _record(self, measurement: Measurement, strategy: str) -> None:
        made = self._signed(measurement, strategy)
        self.records.add(self.job.task, [made])
        self.modelled |= made.modelled
        self.tuned.trials.add(trials_of(self.job.space, [made]))
        self.watch(self.tuned, made)

    def _signed(self, measurement: Measurement, strategy: str) -> Measurement:
        proposed = msgspec.structs.replace(measurement, strategy=strategy, seed=self.options.seed)
        return made_here(proposed)

    def _decide(self) -> None:
        """Compare the fastest with the default, if that works, and record who won."""
        tuned, default = self.tuned, dict(self.job.default)
        limit = self._default_seconds()
        rivals = self._finalists(float("inf") if limit is None else limit)
        tuned.best = default
        if not rivals:
            tuned.note = f"no config {'worked' if limit is None else 'was faster than the default'}"
            return
        contestants = rivals if limit is None else [default, *rivals]
        rounds = self._rounds(contestants, 1 if self.modelled else self.options.rounds)
        if isinstance(rounds, NotCompared):
            tuned.note = f"the fastest were not compared: {rounds.why}"
            if rounds.failed is not None and self._others_remain(rounds.failed):
                self._decide()
            return
        tuned.note = ""
        winner = clear_winner(rounds, self.options.margin)
        if winner and not self._holds(contestants[0], contestants[winner]):
            winner, tuned.note = 0, "the faster one was not faster again"
        made = [self._compared(each, [row[i] for row in rounds])
                for i, each in enumerate(contestants)]  # fmt: skip
        losers = [self._signed(each, FINALIST) for each in made if each is not made[winner]]
        self.records.add(self.job.task, [*losers, self._signed(made[winner], CHOSEN)])
        tuned.best = contestants[winner]
        tuned.seconds = made[winner].seconds
        if limit is None:
            tuned.note = "the default failed"
        else:
            tuned.default_seconds = made[0].seconds

    def _holds(self, first: Mapping[str, Value], winner: Mapping[str, Value]) -> bool:
        """Whether it wins once more: of several rivals on a busy machine one is always lucky."""
        if self.modelled:
            return True
        rounds = self._rounds([first, winner], 2 * self.options.rounds)
        if isinstance(rounds, NotCompared):
            return False
        return bool(clear_winner(rounds, self.options.margin))

    def _others_remain(self, failed: Measurement) -> bool:
        """A default that once worked is replaced by what is faster, or if it gave wrong results."""
        return failed.values != dict(self.job.default) or failed.failure == "correctness"

    def _rounds(self, configs: Sequence[Mapping[str, Value]], count: int) -> Rounds | NotCompared:
        """A config that fails when it is built again is recorded, and never compared again."""
        rounds = self.executor.compare(self.job.task, configs, count)
        if isinstance(rounds, NotCompared) and rounds.failed is not None:
            self.unfit.add(self.job.space.config(rounds.failed.values))
            self._record(rounds.failed, FINALIST)
        return rounds

    def _working(self) -> list[Trial]:
        """Of configs that never gave wrong results, nor failed when they were compared."""
        trials = self.tuned.trials.trials
        wrong = {trial.config for trial in trials if trial.failure == "correctness"} | self.unfit
        return [t for t in trials if t.seconds is not None and t.config not in wrong]

    def _default_seconds(self) -> float | None:
        """The least of the default, None where it failed."""
        at = self.job.space.config(self.job.default)
        own = (t.seconds for t in self._working() if t.config == at and t.seconds is not None)
        return min(own, default=None)

    def _finalists(self, limit: float) -> list[dict[str, Value]]:
        """The fastest that took less than `limit`."""
        space = self.job.space
        faster = {t.config: t.seconds for t in self._working() if t.seconds and t.seconds < limit}
        fastest = sorted(faster, key=lambda config: faster[config])
        return [space.values(config) for config in fastest[: self.options.finalists]]

    def _compared(self, values: Mapping[str, Value], seconds: Sequence[float]) -> Measurement:
        return Measurement(
            values=dict(values),
            seconds=float(np.median(seconds)),
            spread=spread(seconds),
            samples=len(seconds),
            checked=True,
            modelled=self.modelled,
        )


def _found(space: Space, values: Mapping[str, Value]) -> tuple[int, ...] | None:
    """The config of values that may be those of another space."""
    try:
        return space.config(values)
    except UsageError:
        return None

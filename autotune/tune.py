"""
The tuning loop: propose, measure, record, until enough; then the fastest against the default.

Every measurement is recorded as it comes, and what was recorded before is not measured again, so
a tuner that was killed goes on where it was. The default config is measured first, and again
beside the fastest: it is replaced only by one that is clearly faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from .standing import Standing
from .task import Task
from .time_limit import INFINITE
from .trials import Trial, Trials
from .tuned import Job, Tuned, TuneOptions

if TYPE_CHECKING:  # what measures needs none of the packages of searches
    from .search.base import Search

DEFAULT, NEIGHBOUR = "default", "neighbour"
TIME_IS_UP, NOT_TRIED = "the time is up", "not tried: no time was left"
NOT_COMPARED = "the fastest were not compared"
Stop = Callable[[Trials], str | None]
"""Why tuning may stop now, None to go on."""
Make = Callable[[Space, np.random.Generator], "Search"]


class Records(Protocol):
    """Where measurements are kept."""

    def add(self, task: Task, measurements: Sequence[Measurement]) -> int: ...

    def measurements(self, task: Task) -> list[Measurement]: ...


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
        self.finalists = [each for each in checked if each.strategy == FINALIST]
        self.modelled = any(each.modelled for each in checked)
        self.most = options.trials + (0 if options.resume else len(trials))
        self.tuned = Tuned(job, trials, len(trials), legal_share(job.space))
        self.standing = Standing(job, trials)
        self.limit, self.began = options.limit, options.limit.clock()

    def run(self, make: Make, stop: Sequence[Stop]) -> Tuned:
        tuned = self.tuned
        tuned.stopped = self._search(make, stop)
        if self.former is not None and not tuned.measured:
            self._recall(self.former, "decided before")
        elif tuned.tried:
            self._decide()
        else:
            tuned.best, tuned.note = dict(self.job.default), NOT_TRIED
        return tuned

    def _search(self, make: Make, stop: Sequence[Stop]) -> str:
        """Measure the default, the starts and what is proposed; why it ended."""
        tuned, space = self.tuned, self.job.space
        if self.limit.over:
            return self._reason([])
        # A search that goes on must not draw what it drew at first.
        seeds = [self.options.seed, int(self.job.task.key, 16), len(tuned.trials)]
        self._measure_default()
        self._measure(self._starts(), NEIGHBOUR)
        search = make(space, np.random.default_rng(seeds))
        while not (reason := self._reason(stop)):
            configs = search.propose(tuned.trials, self._affordable())
            if not len(configs):
                return "every legal config was tried"
            self._measure(configs, self.options.strategy)
        return reason

    def _reason(self, stop: Sequence[Stop]) -> str:
        """Why to stop now; empty to go on."""
        trials = self.tuned.trials
        if len(trials) >= self.most:
            return f"all {len(trials)} trials were made"
        if self._time_is_up():
            return TIME_IS_UP
        return next(filter(None, (rule(trials) for rule in stop)), "")

    def _time_is_up(self) -> bool:
        """Time is left over to compare the fastest, if anything is faster than the default."""
        return self.limit.share_left <= self._comparing()

    def _each(self) -> float:
        """Seconds that a candidate took so far."""
        return (self.limit.clock() - self.began) / max(1, self.tuned.measured)

    def _comparing(self) -> float:
        """Seconds that the comparison may take: it builds the best of them twice."""
        if self.limit.share_left == INFINITE:
            return 0.0
        rivals = len(self.standing.rivals(self.options.finalists))
        return (rivals + 3) * self._each() if rivals else 0.0

    def _affordable(self) -> int:
        """How many to propose: there should be time for all."""
        count = min(self.options.batch, self.most - len(self.tuned.trials))
        left, each = self.limit.share_left - self._comparing(), self._each()
        return count if count * each <= left else max(1, int(left / each))

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
        left = 0 if self._time_is_up() else max(0, self.most - len(self.tuned.trials))
        return configs[space.legal(configs)][:left]

    def _measure(self, configs: Configs, strategy: str) -> None:
        """
        Legal ones on the device, while there is time; of others the reasons are recorded, and
        nothing is built.
        """
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
            if self._time_is_up():
                break

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
        known = self.standing.default_seconds
        rivals = self.standing.rivals(self.options.finalists)
        tuned.best, tuned.seconds, tuned.default_seconds = default, known, known
        if not rivals:
            tuned.note = f"no config {'worked' if known is None else 'was faster than the default'}"
            return
        if self.limit.over or self.limit.left < len(rivals) * self._each():
            self._leave()
            return
        contestants = rivals if known is None else [default, *rivals]
        rounds = self._rounds(contestants, 1 if self.modelled else self.options.rounds)
        if isinstance(rounds, NotCompared):
            tuned.note = f"{NOT_COMPARED}: {rounds.why}"
            if rounds.failed is not None and self._others_remain(rounds.failed):
                self._decide()
            return
        winner = clear_winner(rounds, self.options.margin)
        tuned.note = self._objection(contestants, winner) if winner else ""
        winner = 0 if tuned.note else winner
        made = [self._compared(each, [row[i] for row in rounds])
                for i, each in enumerate(contestants)]  # fmt: skip
        losers = [self._signed(each, FINALIST) for each in made if each is not made[winner]]
        self.records.add(self.job.task, [*losers, self._signed(made[winner], CHOSEN)])
        tuned.best, tuned.seconds = contestants[winner], made[winner].seconds
        if known is None:
            tuned.note = "the default failed"
        else:
            tuned.default_seconds = made[0].seconds

    def _leave(self) -> None:
        """Undecided: what was chosen before stays, or the default."""
        note = f"{NOT_COMPARED}: {TIME_IS_UP}"
        if self.former is not None:
            self._recall(self.former, note)
        self.tuned.note = note

    def _recall(self, former: Measurement, note: str) -> None:
        """What an earlier comparison chose, beside what it measured of the default."""
        tuned, default = self.tuned, dict(self.job.default)
        tuned.best, tuned.seconds, tuned.note = dict(former.values), former.seconds, note
        known = [each.seconds for each in self.finalists if each.values == default]
        tuned.default_seconds = known[-1] if known else self.standing.default_seconds
        if tuned.kept_default:
            tuned.default_seconds = former.seconds

    def _objection(self, contestants: Sequence[Mapping[str, Value]], winner: int) -> str:
        """Why the winner is none after all: of several on a busy machine one is always lucky."""
        if self.modelled:
            return ""
        if self.limit.over:
            return "no time was left to compare the faster one again"
        pair = [contestants[0], contestants[winner]]
        rounds = self._rounds(pair, 2 * self.options.rounds)
        if isinstance(rounds, NotCompared) or not clear_winner(rounds, self.options.margin):
            return "the faster one was not faster again"
        return ""

    def _others_remain(self, failed: Measurement) -> bool:
        """A default that once worked is replaced by what is faster, or if it gave wrong results."""
        return failed.values != dict(self.job.default) or failed.failure == "correctness"

    def _rounds(self, configs: Sequence[Mapping[str, Value]], count: int) -> Rounds | NotCompared:
        """A config that fails when it is built again is recorded, and never compared again."""
        rounds = self.executor.compare(self.job.task, configs, count)
        if isinstance(rounds, NotCompared) and rounds.failed is not None:
            self.standing.strike(rounds.failed.values)
            self._record(rounds.failed, FINALIST)
        return rounds

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

"""The loop: records as it goes, repeats nothing, and keeps the default unless it clearly loses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from qcc.autotune.choice import CHOSEN, FINALIST
from qcc.autotune.draw import legal_share
from qcc.autotune.measure.backend import Values
from qcc.autotune.measure.executors.base import NotCompared, Rounds
from qcc.autotune.measurement import Measurement
from qcc.autotune.search import SEARCHES
from qcc.autotune.task import Task
from qcc.autotune.trials import Trials
from qcc.autotune.tune import tune
from qcc.autotune.tuned import Job, TuneOptions
from qcc.dialects.knobs import Constraint, Knob, Space, Value

SPACE = Space(
    "tiles",
    (Knob("rows", tuple(range(1, 17))), Knob("columns", tuple(range(1, 17)))),
    (Constraint(("rows", "columns"), lambda r, c: r * c <= 64, "at most 64 sums"),),
)
TASK = Task("fake.kernel", {"n": 64})
JOB = Job(TASK, SPACE, {"rows": 4, "columns": 4})
RANDOM = SEARCHES["random"].make


class Memory:
    """Records that know the order in which they came."""

    def __init__(self) -> None:
        self.kept: list[Measurement] = []

    def add(self, task: Task, measurements: Sequence[Measurement]) -> int:
        assert task == TASK
        self.kept += measurements
        return len(measurements)

    def measurements(self, task: Task) -> list[Measurement]:
        return list(self.kept)


class Formula:
    """Times are a formula; after `stop_after` measurements it is interrupted."""

    def __init__(self, seconds=lambda v: 1 / (v["rows"] * v["columns"]), stop_after=10**9) -> None:
        self.seconds, self.left, self.asked = seconds, stop_after, []
        self.in_turns = self.seconds

    def measure(self, task: Task, configs: Sequence[Values]) -> Iterator[tuple[int, Measurement]]:
        for place, values in enumerate(configs):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            self.asked.append(tuple(values.values()))
            seconds = self.seconds(values)
            yield place, Measurement(values=dict(values), seconds=seconds, checked=True)

    def compare(self, task: Task, configs: Sequence[Values], rounds: int) -> Rounds | NotCompared:
        return [[self.in_turns(values) for values in configs] for _ in range(rounds)]

    def close(self) -> None:
        pass


def sums(values: Values) -> int:
    return int(values["rows"]) * int(values["columns"])


def options(trials: int) -> TuneOptions:
    return TuneOptions(trials, "random", resume=True)


def test_the_fastest_wins_and_is_recorded():
    records = Memory()
    tuned = tune(JOB, RANDOM, Formula(), records, [], options(40))
    assert (tuned.measured, tuned.repeated, tuned.stopped) == (40, 0, "all 40 trials were made")
    fastest = min(m.seconds or 0 for m in records.kept if m.strategy == "random")
    assert tuned.seconds == fastest < 1 / 16 == tuned.default_seconds
    assert [m.strategy for m in records.kept[:2]] == ["default", "random"]
    assert [m.strategy for m in records.kept[-4:]] == [FINALIST] * 3 + [CHOSEN]
    assert records.kept[-1].values == tuned.best
    assert all(a.when <= b.when for a, b in pairwise(records.kept))


def test_a_measurement_names_the_machine_that_made_it():
    class Elsewhere(Formula):
        def measure(self, task, configs):
            for place, made in super().measure(task, configs):
                yield place, msgspec.structs.replace(made, host="elsewhere", when=7.0)

    records = Memory()
    tune(JOB, RANDOM, Elsewhere(), records, [], options(3))
    assert {(each.host, each.when) for each in records.kept[:3]} == {("elsewhere", 7.0)}


def test_a_win_that_does_not_hold_in_turns_is_none():
    executor = Formula()
    executor.in_turns = lambda values: 1.0 if values == JOB.default else 0.99
    records = Memory()
    tuned = tune(JOB, RANDOM, executor, records, [], options(30))
    assert tuned.kept_default
    assert records.kept[-1].strategy == CHOSEN
    assert records.kept[-1].values == dict(JOB.default)


@pytest.mark.parametrize("modelled", [True, False])
def test_what_a_model_timed_is_recorded_as_such(modelled: bool):
    class Modelled(Formula):
        def measure(self, task: Task, configs: Sequence[Values]):
            for place, made in super().measure(task, configs):
                yield place, msgspec.structs.replace(made, modelled=modelled)

    records = Memory()
    tune(JOB, RANDOM, Modelled(), records, [], options(20))
    assert {each.strategy for each in records.kept[-4:]} == {FINALIST, CHOSEN}
    assert {each.modelled for each in records.kept} == {modelled}


def test_a_win_that_does_not_hold_again_is_none():
    class Lucky(Formula):
        def compare(self, task, configs, rounds):
            first = len(configs) > 2
            return [[1.0] + [0.5 if first else 1.0] * (len(configs) - 1)] * rounds

    tuned = tune(JOB, RANDOM, Lucky(), Memory(), [], options(30))
    assert tuned.kept_default
    assert tuned.note == "the faster one was not faster again"


def test_an_interrupted_tune_goes_on_without_repeating():
    records, interrupted = Memory(), Formula(stop_after=13)
    with pytest.raises(KeyboardInterrupt):
        tune(JOB, RANDOM, interrupted, records, [], options(30))
    assert len(records.kept) == 13
    again = Formula()
    tuned = tune(JOB, RANDOM, again, records, [], options(30))
    assert (tuned.repeated, tuned.measured) == (13, 17)
    assert not set(interrupted.asked) & set(again.asked)
    assert records.kept[-1].strategy == CHOSEN


def test_without_resuming_trials_are_made_on_top():
    records = Memory()
    tune(JOB, RANDOM, Formula(), records, [], options(10))
    tuned = tune(JOB, RANDOM, Formula(), records, [], TuneOptions(10, "random"))
    assert (tuned.repeated, tuned.measured) == (10, 10)


def test_what_was_decided_is_not_compared_again():
    records = Memory()
    first = tune(JOB, RANDOM, Formula(), records, [], options(20))
    count, executor = len(records.kept), Formula()
    second = tune(JOB, RANDOM, executor, records, [], options(20))
    assert (executor.asked, len(records.kept)) == ([], count)
    assert (second.best, second.note) == (first.best, "decided before")


def test_failures_never_win_and_are_counted():
    class Failing(Formula):
        def measure(self, task, configs):
            for place, made in super().measure(task, configs):
                bad = int(made.values["rows"]) > 8
                failed = Measurement(values=made.values, failure="correctness", detail="1 differs")
                yield place, failed if bad else made

    records = Memory()
    tuned = tune(JOB, RANDOM, Failing(), records, [], options(40))
    assert int(tuned.best["rows"]) <= 8
    assert tuned.failures == {"correctness": sum(not m.worked for m in records.kept)}
    assert tuned.failures["correctness"] > 0


def test_a_time_that_nobody_checked_is_no_trial_but_a_start():
    records, executor = Memory(), Formula()
    lucky: dict[str, Value] = {"rows": 1, "columns": 1}
    unchecked = Measurement(values=lucky, seconds=1e-9, modelled=True)
    records.kept += [unchecked, msgspec.structs.replace(unchecked, strategy=CHOSEN)]
    tuned = tune(JOB, RANDOM, executor, records, [], options(10))
    assert (tuned.repeated, tuned.measured) == (0, 10)
    assert executor.asked[1] == (1, 1)
    assert tuned.best != lucky
    assert not any(each.modelled for each in records.kept[2:])


def test_what_was_wrong_once_is_no_finalist_and_was_not_decided():
    records = Memory()
    best: dict[str, Value] = {"rows": 8, "columns": 8}
    records.kept += [
        Measurement(values=best, seconds=1e-9, checked=True),
        Measurement(values=best, seconds=1e-9, checked=True, strategy=CHOSEN),
        Measurement(values=best, failure="correctness", detail="1 differs"),
    ]
    tuned = tune(JOB, RANDOM, Formula(), records, [], options(20))
    assert tuned.measured == 18
    assert tuned.best != best


@pytest.mark.parametrize("failure", ["compile", "correctness"])
def test_a_default_that_fails_gives_way_to_the_fastest(failure: str):
    class Failing(Formula):
        def measure(self, task, configs):
            for place, made in super().measure(task, configs):
                failed = Measurement(values=made.values, failure=failure)
                yield place, failed if made.values == JOB.default else made

        def compare(self, task, configs, rounds):
            if JOB.default in configs:
                return NotCompared("one of them could not be built again")
            return super().compare(task, configs, rounds)

    records = Memory()
    tuned = tune(JOB, RANDOM, Failing(), records, [], options(20))
    fastest = min(m.seconds for m in records.kept if m.seconds)
    assert (tuned.seconds, tuned.default_seconds) == (fastest, None)
    assert tuned.note == "the default failed"
    assert (records.kept[-1].values, records.kept[-1].strategy) == (tuned.best, CHOSEN)


def test_what_is_wrong_when_it_is_built_again_is_recorded_and_never_wins():
    class Wrong(Formula):
        """The fastest of all is wrong the second time."""

        def compare(self, task, configs, rounds):
            fastest = min(configs, key=self.seconds)
            if sums(fastest) == 64:
                failed = Measurement(
                    values=dict(fastest), failure="correctness", detail="1 differs"
                )
                return NotCompared.of(failed)
            return super().compare(task, configs, rounds)

    records = Memory()
    tuned = tune(JOB, RANDOM, Wrong(), records, [], options(150))
    assert 16 < sums(tuned.best) < 64
    wrong = [each for each in records.kept if each.failure == "correctness"]
    assert wrong
    assert {sums(each.values) for each in wrong} == {64}
    again = tune(JOB, RANDOM, Wrong(), records, [], options(150))
    assert (again.best, again.measured, again.note) == (tuned.best, 0, "decided before")


def test_a_default_that_does_not_start_again_stays():
    class Failing(Formula):
        def compare(self, task, configs, rounds):
            return NotCompared.of(Measurement(values=dict(JOB.default), failure="timeout"))

    tuned = tune(JOB, RANDOM, Failing(), Memory(), [], options(20))
    assert (tuned.kept_default, tuned.speedup) == (True, 1.0)
    assert "built again" in tuned.note


def test_nothing_works():
    class Failing(Formula):
        def measure(self, task, configs):
            for place, made in super().measure(task, configs):
                yield place, Measurement(values=made.values, failure="compile")

    tuned = tune(JOB, RANDOM, Failing(), Memory(), [], options(5))
    assert (tuned.kept_default, tuned.note) == (True, "no config worked")


def test_illegal_proposals_are_recorded_and_never_built():
    class Careless:
        def propose(self, trials: Trials, count: int):
            return np.array([[15, 15], [0, len(trials) % 16]])

    executor, records = Formula(), Memory()
    tune(JOB, lambda space, rng: Careless(), executor, records, [], options(5))
    refused = [m for m in records.kept if m.failure == "constraints"]
    assert {m.detail for m in refused} == {"at most 64 sums"}
    assert (16, 16) not in executor.asked


def test_a_space_that_is_used_up_ends_the_search():
    small = Space("small", (Knob("rows", (1, 2, 3)), Knob("columns", (1,))))
    job = Job(TASK, small, {"rows": 1, "columns": 1})
    tuned = tune(job, SEARCHES["exhaustive"].make, Formula(), Memory(), [], options(99))
    assert (tuned.measured, tuned.stopped) == (3, "every legal config was tried")


def test_no_finalists_no_comparison():
    slower = Formula(lambda values: 0.5 if values == JOB.default else 1.0)
    tuned = tune(JOB, RANDOM, slower, Memory(), [], options(5))
    assert tuned.kept_default
    assert tuned.note == "no config was faster than the default"


def test_rules_stop_it_before():
    tuned = tune(JOB, RANDOM, Formula(), Memory(), [lambda trials: "bored"], options(50))
    assert (tuned.measured, tuned.stopped) == (1, "bored")


def test_the_legal_share_is_that_of_all_points():
    configs = np.indices((16, 16)).reshape(2, -1).T
    assert legal_share(SPACE) == pytest.approx(SPACE.legal(configs).mean(), abs=0.02)

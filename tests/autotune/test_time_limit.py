"""Tuning that must end at a time: on a clock that the tests set, never a real one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from qcc.autotune.choice import CHOSEN
from qcc.autotune.measure.backend import Values
from qcc.autotune.measure.executors.base import NotCompared, Rounds
from qcc.autotune.measurement import Measurement
from qcc.autotune.search import SEARCHES
from qcc.autotune.task import Task
from qcc.autotune.time_limit import TimeLimit
from qcc.autotune.tune import NOT_TRIED, TIME_IS_UP, tune
from qcc.autotune.tuned import Job, Tuned, TuneOptions
from qcc.dialects.knobs import Knob, Space

SPACE = Space("sizes", (Knob("size", tuple(range(64))),))
JOB = Job(Task("fake.kernel", {"n": 64}), SPACE, {"size": 0})
RANDOM = SEARCHES["random"].make


class Machine:
    """Candidates take `each` seconds of its clock, and comparing takes as long for each config."""

    def __init__(self, each: float = 10.0, gain: float = 1.0) -> None:
        self.now, self.each, self.gain = 1000.0, each, gain
        self.kept: list[Measurement] = []
        self.compared = 0

    def clock(self) -> float:
        return self.now

    def measure(self, task: Task, configs: Sequence[Values]) -> Iterator[tuple[int, Measurement]]:
        for place, values in enumerate(configs):
            self.now += self.each
            seconds = self._seconds(values)
            yield place, Measurement(values=dict(values), seconds=seconds, checked=True)

    def compare(self, task: Task, configs: Sequence[Values], rounds: int) -> Rounds | NotCompared:
        self.compared += 1
        self.now += self.each * len(configs)
        return [[self._seconds(values) for values in configs]] * rounds

    def _seconds(self, values: Values) -> float:
        return 65.0 - self.gain * int(values["size"])

    def close(self) -> None:
        pass

    def add(self, task: Task, measurements: Sequence[Measurement]) -> int:
        self.kept += measurements
        return len(measurements)

    def measurements(self, task: Task) -> list[Measurement]:
        return list(self.kept)


def tuned(machine: Machine, seconds: float, tasks: int = 1, trials: int = 40) -> Tuned:
    limit = TimeLimit.after(seconds, machine.clock).shared(tasks)
    options = TuneOptions(trials, "random", resume=True, limit=limit)
    return tune(JOB, RANDOM, machine, machine, [], options)


@pytest.mark.parametrize("seconds", [15, 25, 55, 95, 200, 333])
def test_the_search_leaves_time_for_the_comparison(seconds: float):
    machine = Machine()
    made = tuned(machine, seconds)
    assert machine.now <= 1000 + seconds + machine.each
    assert made.stopped == TIME_IS_UP
    if seconds >= 95:
        assert made.kept_default is False
        assert machine.kept[-1].strategy == CHOSEN


def test_a_task_of_several_leaves_their_share_to_the_others():
    machine = Machine(gain=-1.0)
    assert tuned(machine, 400, tasks=4).measured == 10
    assert machine.now == 1100


def test_nothing_is_begun_when_the_time_is_over():
    machine = Machine()
    made = tuned(machine, 0)
    assert (machine.now, machine.kept, made.tried, made.note) == (1000, [], False, NOT_TRIED)
    assert (made.kept_default, made.seconds) == (True, None)


def test_what_was_decided_before_needs_no_time():
    machine = Machine()
    first = tuned(machine, 1e6)
    again = tuned(machine, 0)
    assert (again.best, again.seconds, again.note) == (first.best, first.seconds, "decided before")
    assert again.default_seconds == first.default_seconds
    assert again.stopped == "all 40 trials were made"


def test_what_time_was_too_short_to_compare_is_compared_when_it_goes_on():
    machine = Machine(each=30.0)
    first = tuned(machine, 45)
    assert (first.kept_default, machine.compared) == (True, 0)
    assert "were not compared: the time is up" in first.note
    assert first.default_seconds == first.seconds == 65.0
    again = tuned(machine, 1e6, trials=2)
    assert (again.measured, machine.compared, again.kept_default) == (0, 2, False)


def test_no_limit_no_end():
    machine = Machine()
    options = TuneOptions(40, "random")
    assert tune(JOB, RANDOM, machine, machine, [], options).measured == 40


def test_where_nothing_is_faster_both_times_are_those_of_the_default():
    made = tuned(Machine(gain=-1.0), 1e6)
    assert (made.default_seconds, made.seconds, made.speedup) == (65.0, 65.0, 1.0)

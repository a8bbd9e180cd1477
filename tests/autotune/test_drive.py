"""Other tuners propose; every proposal is measured once, and recorded."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from qcc.autotune.database import Database
from qcc.autotune.interchange.drive import Driven
from qcc.autotune.measure.backend import Values
from qcc.autotune.measure.executors.base import NotCompared
from qcc.autotune.measurement import Measurement
from qcc.autotune.task import Task
from qcc.autotune.tuned import Job
from qcc.dialects.errors import UsageError
from qcc.dialects.knobs import Constraint, Knob, Space

SPACE = Space(
    "tiles",
    (Knob("rows", (1, 2, 4, 8)), Knob("columns", (1, 2, 4, 8))),
    (Constraint(("rows", "columns"), lambda r, c: r * c <= 16, "at most 16 sums"),),
)
JOB = Job(Task("fake.kernel", {"n": 64}), SPACE, {"rows": 1, "columns": 1})


class Executor:
    """Times are a formula; one row and eight columns give wrong results."""

    def __init__(self) -> None:
        self.tried: list[Values] = []

    def measure(self, task: Task, configs: Sequence[Values]) -> Iterator[tuple[int, Measurement]]:
        assert task == JOB.task
        for place, values in enumerate(configs):
            self.tried.append(values)
            if (values["rows"], values["columns"]) == (1, 8):
                yield place, Measurement(values=dict(values), failure="correctness")
            else:
                yield place, Measurement(values=dict(values), seconds=1e-3, checked=True)

    def compare(self, task: Task, configs: Sequence[Values], rounds: int) -> NotCompared:
        raise AssertionError("another tuner decides")

    def close(self) -> None:
        pass


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "tuning.db", create=True)


def test_proposals_are_measured_once_and_recorded(database: Database) -> None:
    executor = Executor()
    driven = Driven(JOB, executor, database, "others")
    for _ in range(3):
        assert driven.measure({"columns": 4, "rows": 2}).seconds == 1e-3
    assert driven.c_source({"rows": 2, "columns": 4}) == (
        "float milliseconds(void) { return 1.000000000e+00f; }\n"
    )
    [kept] = database.measurements(JOB.task)
    assert (kept.strategy, kept.values) == ("others", {"columns": 4, "rows": 2})
    Driven(JOB, executor, Database(database.path), "others").measure({"rows": 2, "columns": 4})
    assert len(executor.tried) == 1


def test_illegal_proposals_are_recorded_and_not_built(database: Database) -> None:
    executor = Executor()
    driven = Driven(JOB, executor, database, "others")
    assert driven.measure({"rows": 8, "columns": 4}).failure == "constraints"
    assert database.measurements(JOB.task)[0].detail == "at most 16 sums"
    assert not executor.tried
    with pytest.raises(UsageError, match="is no config"):
        driven.measure({"rows": 3, "columns": 4})


def test_what_fails_is_slow_for_a_tuner_that_knows_only_times(database: Database) -> None:
    driven = Driven(JOB, Executor(), database, "others")
    assert "return 1.000000000e+20f;" in driven.c_source({"rows": 1, "columns": 8})

"""A run of `qcc tune` on tasks whose times are made up: nothing is compiled."""

from __future__ import annotations

from qcc.autotune.database import Database
from qcc.autotune.measure.backend import BackendName
from qcc.autotune.measurement import Measurement
from qcc.autotune.search import SEARCHES
from qcc.autotune.task import Task
from qcc.autotune.tune import Job
from qcc.compiler.console import Silent
from qcc.compiler.tuning import session
from qcc.compiler.tuning.model_jobs import ModelJob, Tunable
from qcc.compiler.tuning.session import SessionOptions, run_session
from qcc.dialects.knobs import Knob, Space, Value

SPACE = Space("sizes", (Knob("size", tuple(range(64))),))
JOB = Job(Task("fake.kernel", {"n": 64}), SPACE, {"size": 0})
TUNABLE = Tunable("none", BackendName("none"), [ModelJob(JOB, ("fc",), 1)])


class Growing:
    """Larger ones are slower."""

    def measure(self, task, configs):
        for place, values in enumerate(configs):
            yield place, Measurement(values=values, seconds=1.0 + values["size"], checked=True)

    def compare(self, task, configs, rounds):
        return [[1.0 + values["size"] for values in configs]] * rounds

    def close(self) -> None:
        pass


def test_each_run_without_resume_makes_as_many_new_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "make_executor", lambda tunable, options: Growing())
    database = Database(tmp_path / "tuning.db", create=True)
    imported: list[dict[str, Value]] = [
        {"size": 99},
        {"size": 1},
    ]  # of another space, and never checked
    database.add(JOB.task, [Measurement(values=each, seconds=9.0) for each in imported])

    def measured(options: SessionOptions) -> int:
        strategy = SEARCHES["random"]
        [(_, tuned)] = run_session(TUNABLE, strategy, database, options, Silent())
        return tuned.measured

    assert [measured(SessionOptions(trials=3)) for _ in range(3)] == [3, 3, 3]
    assert measured(SessionOptions(trials=9, resume=True)) == 0

"""A run of `qcc tune` on tasks whose times are made up: nothing is compiled."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from qcc.autotune.database import Database
from qcc.autotune.measure.backend import BackendName
from qcc.autotune.measurement import Measurement
from qcc.autotune.search import SEARCHES
from qcc.autotune.task import Task
from qcc.autotune.tuned import Job, Tuned
from qcc.compiler.commands.tune_table import tune_data, tune_text
from qcc.compiler.console import Lines, Silent
from qcc.compiler.tuning import session
from qcc.compiler.tuning.model_jobs import ModelJob, Tunable
from qcc.compiler.tuning.session import SessionOptions, run_session
from qcc.dialects.knobs import Knob, Space, Value

SPACE = Space("sizes", (Knob("size", tuple(range(64))),))
JOB = Job(Task("fake.kernel", {"n": 64}), SPACE, {"size": 0})
TUNABLE = Tunable("none", BackendName("none"), [ModelJob(JOB, ("fc",), 1)])


class Growing:
    """Larger ones are slower, or with a negative `step` faster."""

    def __init__(self, step: float = 1.0) -> None:
        self.step = step

    def measure(self, task, configs):
        for place, values in enumerate(configs):
            yield place, measurement(values, 65.0 + self.step * values["size"])

    def compare(self, task, configs, rounds):
        return [[65.0 + self.step * values["size"] for values in configs]] * rounds

    def close(self) -> None:
        pass


def test_each_run_without_resume_makes_as_many_new_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "make_executor", lambda *_: Growing())
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


def test_what_other_tasks_measured_teaches_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "make_executor", lambda *_: Growing(-1.0))
    monkeypatch.setattr(session, "NEIGHBOURS", 0)
    database = Database(tmp_path / "tuning.db", create=True)
    sizes: list[dict[str, Value]] = [{"size": size} for size in range(8, 64)]
    similar = Task("fake.kernel", {"n": 32}, device="another")
    database.add(similar, [measurement(each, 64.0 - int(each["size"])) for each in sizes])
    database.add(Task("fake.kernel", {"n": 65}), [measurement(each, 1.0) for each in sizes[:9]])
    database.add(Task("other.kernel", {"n": 64}), [measurement(each, 1.0) for each in sizes])

    def tuned(strategy: str) -> Tuned:
        options = SessionOptions(trials=12)
        [(_, made)] = run_session(TUNABLE, SEARCHES[strategy], database, options, Silent())
        return made

    learnt = tuned("guided")
    assert [(each.task, len(each.trials)) for each in learnt.job.others] == [(similar, 56)]
    # Larger ones were faster there, so they are tried first; else the first are spread out.
    assert min(trial.config[0] for trial in learnt.trials.trials[1:9]) > 32
    assert tuned("random").job.others == ()


def test_tasks_without_time_left_are_told(tmp_path, monkeypatch):
    seconds = iter(range(0, 10_000, 7))
    monkeypatch.setattr(session, "make_executor", lambda *_: Growing())
    database = Database(tmp_path / "tuning.db", create=True)
    jobs = [
        ModelJob(Job(Task("fake.kernel", {"n": n}), SPACE, {"size": 0}), (), 1) for n in range(9)
    ]
    tunable = Tunable("none", BackendName("none"), jobs)
    lines = io.StringIO()
    options = SessionOptions(seconds=60.0)
    made = [
        tuned
        for _, tuned in run_session(
            tunable, SEARCHES["random"], database, options, Lines(lines), lambda: next(seconds)
        )
    ]
    assert len(made) == 9
    assert [tuned.tried for tuned in made] == sorted((tuned.tried for tuned in made), reverse=True)
    assert made[0].tried
    assert not made[-1].tried
    done = list(zip(jobs, made, strict=True))
    untried = [tuned.job.task.work for tuned in made if not tuned.tried]
    assert tune_data(Path("x.db"), done)["untried"] == untried
    assert "geometric mean" in tune_text("m", Path("x.db"), done, modelled=False)
    text = tune_text("m", Path("x.db"), done[-1:], modelled=False)
    assert text.endswith("nothing was tried: give it more time")
    assert lines.getvalue().splitlines()[3] == "qcc: 4/9 fake.kernel n=3"


def measurement(values: Mapping[str, Value], seconds: float) -> Measurement:
    return Measurement(values=dict(values), seconds=seconds, checked=True)

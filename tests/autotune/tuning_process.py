"""
A tuner in a process of its own, to be killed: python -m tests.autotune.tuning_process FOLDER TRIALS

Its candidates take 50 ms; each that is run is a line of FOLDER/log.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from qcc.autotune.database import Database
from qcc.autotune.measure.backend import BackendName
from qcc.autotune.measure.device_lock import DeviceLock
from qcc.autotune.measure.executors.local import LocalExecutor
from qcc.autotune.task import Task
from qcc.autotune.trials import Trials
from qcc.autotune.tune import tune
from qcc.autotune.tuned import Job, Tuned, TuneOptions
from qcc.dialects.knobs import Configs, Knob, Space

SPACE = Space("tiles", (Knob("time", tuple(range(1, 200))), Knob("columns", (1, 2, 4))))
JOB = Job(Task("fake.kernel", {"n": 64}), SPACE, {"time": 100, "columns": 1})
BACKEND = "tests.autotune.faulty_backend:FaultyBackend"


class AtRandom:
    """Proposes what was not tried; real searches take a second to import."""

    def __init__(self, space: Space, rng: np.random.Generator) -> None:
        self._order = rng.permutation(len(space.knobs[0].values))

    def propose(self, trials: Trials, count: int) -> Configs:
        tried = {trial.config for trial in trials.trials}
        fresh = [place for place in self._order.tolist() if (place, 0) not in tried]
        return np.array([(place, 0) for place in fresh[:count]], np.int64)


def tuned(folder: Path, trials: int) -> Tuned:
    database = Database(folder / "tuning.db", create=True)
    name = BackendName(BACKEND, {"log": str(folder / "log"), "slow": 0.05})
    executor = LocalExecutor(name, DeviceLock(folder / "lock"))
    try:
        options = TuneOptions(trials, "random", finalists=0, resume=True)
        return tune(JOB, AtRandom, executor, database, [], options)
    finally:
        executor.close()


if __name__ == "__main__":
    tuned(Path(sys.argv[1]), int(sys.argv[2]))

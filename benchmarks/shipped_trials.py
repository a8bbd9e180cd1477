"""
What the trials that ship with qcc teach about a task that they do not have.

    python -m benchmarks.shipped_trials [--database F]
    python -m benchmarks.shipped_trials --ship F [F …]

Each task in turn is left out: the trees that `qcc tune` would train on its nearest tasks rank the
trials that it has itself. Printed are Spearman's correlation with the measured times, and the time
of the one that trees think best over the least, against that of a random one.

With --ship the trials of databases become those that ship, in place of all of the same kernels
(benchmarks.cpu_schedules and benchmarks.cuda_trials make such databases): without names of
machines and times of day.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from scipy.stats import rankdata

from qcc.autotune import database
from qcc.autotune.database import Collection, Entry, Store, open_store
from qcc.autotune.database.document import encode_document
from qcc.autotune.database.shipped import shipped_trials
from qcc.autotune.related import related
from qcc.autotune.task import Task
from qcc.autotune.transfer import Sources
from qcc.codegen.cpu.features import host_features
from qcc.compiler.console import table
from qcc.compiler.tuning.cpu_backend import cpu_linear
from qcc.dialects.cpu.space import KERNEL, linear_space

LEAST = 16
TRIALS = Path(database.__file__).parent / "trials.json.gz"


def judged(store: Store) -> Iterator[tuple[str, float, float, float]]:
    """Of each task of the CPU: formats, correlation, and slowdowns of the chosen and of any."""
    for task in store.tasks():
        if task.kernel == KERNEL and (found := _judged(store, task)):
            yield task.format, *found


def _judged(store: Store, task: Task) -> tuple[float, float, float] | None:
    _, problem = cpu_linear(task)
    space = linear_space(problem, int(task.problem["m"]), frozenset(host_features()))
    own = related(Task(task.kernel, task.problem, "none"), space, [_Only(store, task)])
    others = related(task, space, [store])
    if not own or not others or len(own[0].trials) < LEAST:
        return None
    trials = own[0].trials
    expected = Sources.of(space, [each.trials for each in others])(trials.configs).mean(axis=1)
    times = trials.log_times
    slowdowns = np.exp(times - times.min())
    correlation = float(np.corrcoef(rankdata(expected), rankdata(times))[0, 1])
    return correlation, float(slowdowns[np.argmin(expected)]), float(np.median(slowdowns))


class _Only:
    """A store of one task of another."""

    def __init__(self, store: Store, task: Task) -> None:
        self._store, self._task = store, task

    def tasks(self) -> list[Task]:
        return [self._task]

    def measurements(self, task: Task) -> list:
        return self._store.measurements(task)


def ship(databases: Sequence[Store], target: Path) -> int:
    """Write what shall ship to `target`; how many trials that are."""
    fresh = [(task, store) for store in databases for task in store.tasks()]
    replaced = {task.kernel for task, _ in fresh}
    old = shipped_trials()
    kept = [(task, old) for task in old.tasks() if task.kernel not in replaced]
    entries = [
        Entry(task, msgspec.structs.replace(each, host="", when=0.0, cost={}))
        for task, store in [*kept, *sorted(fresh, key=lambda pair: pair[0].text)]
        for each in store.measurements(task)
    ]
    target.write_bytes(gzip.compress(encode_document(Collection(entries)), mtime=0))
    return len(entries)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--database", type=Path, help="by default what ships with qcc")
    parser.add_argument("--ship", type=Path, nargs="+", metavar="F", help="databases")
    options = parser.parse_args(words)
    if options.ship:
        count = ship([open_store(each) for each in options.ship], TRIALS)
        sys.stdout.write(f"{count} trials in {TRIALS}, {TRIALS.stat().st_size} bytes\n")
        return 0
    store = open_store(options.database) if options.database else shipped_trials()
    found = list(judged(store))
    rows = []
    for formats in [*dict.fromkeys(each[0] for each in found), "all"]:
        some = np.array([each[1:] for each in found if formats in (each[0], "all")])
        rows.append({
            "formats": formats, "tasks": len(some),
            "Spearman": f"{np.median(some[:, 0]):.2f}",
            "first, of the best": f"{np.median(some[:, 1]):.2f}",
            "any, of the best": f"{np.median(some[:, 2]):.2f}",
        })  # fmt: skip
    sys.stdout.write(table(rows, list(rows[0])) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""
Kernels of qcc under the tuners of others: they propose values, qcc builds, checks, times, records.

    driven = Driven(job, executor, database, "kernel_tuner")
    driven.measure({"rows": 4, …})            any tuner that takes a function
    tune_kernel("milliseconds", driven.c_source, 1, [], values, restrictions=rules, lang="C")

The last is Kernel Tuner, with knobs and rules of T1 JSON (t1.py). It times C functions by what they
return, and takes a function that writes their text: this one returns what qcc measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...dialects.knobs import Value
from ..measure.executors.base import Executor
from ..measurement import Measurement, made_here, trials_of
from ..tune import Records
from ..tuned import Job

MILLISECONDS = 1e3
FUNCTION = "milliseconds"
FAILED = 1e20


class Driven:
    """A job of which another tuner makes the proposals; `strategy` names it in the records."""

    def __init__(self, job: Job, executor: Executor, records: Records, strategy: str) -> None:
        self.task, self.space = job.task, job.space
        self._executor, self._records, self._strategy = executor, records, strategy
        self._known: dict[tuple[int, ...], Measurement] = {}
        for each in records.measurements(job.task):
            for trial in trials_of(job.space, [each]):
                self._known[trial.config] = each

    def measure(self, values: Mapping[str, Value]) -> Measurement:
        """
        What trying `values` gave, now or before.

        Raises UsageError where they are not values of the knobs.
        """
        config = self.space.config(values)
        if config not in self._known:
            tried = msgspec.structs.replace(self._tried(config), strategy=self._strategy)
            made = made_here(tried)
            self._records.add(self.task, [made])
            self._known[config] = made
        return self._known[config]

    def c_source(self, values: Mapping[str, Value]) -> str:
        """
        A C function that returns the milliseconds that `values` took, FAILED where they failed:
        Kernel Tuner ends where C does not compile.
        """
        seconds = self.measure(values).seconds
        time = FAILED if seconds is None else seconds * MILLISECONDS
        return f"float {FUNCTION}(void) {{ return {time:.9e}f; }}\n"

    def _tried(self, config: tuple[int, ...]) -> Measurement:
        values = self.space.values(config)
        broken = self.space.broken(config)
        if broken:
            return Measurement(values=values, failure="constraints", detail="; ".join(broken))
        [(_, measured)] = self._executor.measure(self.task, [values])
        return measured

"""The time of each phase of a command, counted once where phases lie within others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stopwatch:
    """Seconds by phase, in the order in which phases first ended; started when it is made."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()
        self._within = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`, less that of the phases within it."""
        around, self._within = self._within, 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._within
            self._within = around + spent

    def with_total(self, others: Mapping[str, float]) -> dict[str, float]:
        """
        The phases and `others`, which another watch took meanwhile, then `other` and `total`.

        `other` is what no phase took, so that all the lines add up to the last.
        """
        phases = {**self.seconds, **others}
        total = time.perf_counter() - self._start
        return {**phases, "other": max(0.0, total - sum(phases.values())), "total": total}

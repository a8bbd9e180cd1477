"""How long tuning may go on: until when candidates are begun."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """
    `end` is that of everything, `share` when the search of this task should be over, on `clock` in
    seconds.

    >>> TimeLimit.after(60.0, lambda: 100.0).shared(3)
    TimeLimit(end=160.0, share=120.0)
    """

    end: float = INFINITE
    share: float = INFINITE
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> TimeLimit:
        """None: there is no limit."""
        return cls(clock=clock) if seconds is None else cls(clock() + seconds, clock=clock)

    def __repr__(self) -> str:
        return f"TimeLimit(end={self.end}, share={self.share})"

    @property
    def left(self) -> float:
        return self.end - self.clock()

    @property
    def over(self) -> bool:
        return self.left <= 0

    @property
    def share_left(self) -> float:
        """Until this task should be decided."""
        return min(self.share, self.end) - self.clock()

    def shared(self, tasks: int) -> TimeLimit:
        """For the first of so many tasks that have what is left in equal shares."""
        return replace(self, share=self.clock() + self.left / tasks)


ENDLESS = TimeLimit()

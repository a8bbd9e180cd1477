"""What the tuning loop asks of whatever tries candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ...measurement import Measurement
from ...task import Task
from ..backend import Values

Rounds = list[list[float]]
"""Seconds of each candidate in each round, [rounds][candidates]."""


class Executor(Protocol):
    def measure(self, task: Task, configs: Sequence[Values]) -> Iterator[tuple[int, Measurement]]:
        """
        The place of a config in `configs` and what trying it gave, as they come; each once.

        However a candidate fails, it is a measurement. Raises QccErrors for what is the fault of
        none of them.
        """
        ...

    def compare(self, task: Task, configs: Sequence[Values], rounds: int) -> Rounds | str:
        """Configs that worked, run in turns on the idle device; or why that was not possible."""
        ...

    def close(self) -> None:
        """Stop all that still runs."""
        ...

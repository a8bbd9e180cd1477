"""What the tuning loop asks of whatever tries candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...measurement import Measurement
from ...task import Task
from ..backend import Values

Rounds = list[list[float]]
"""Seconds of each candidate in each round, [rounds][candidates]."""


@dataclass(frozen=True, slots=True)
class NotCompared:
    """Why configs were not compared; `failed` is what became of the one that is at fault."""

    why: str
    failed: Measurement | None = None

    @staticmethod
    def of(failed: Measurement) -> NotCompared:
        """
        >>> NotCompared.of(Measurement(values={}, failure="timeout", detail="no answer")).why
        'built again, one fails: no answer'
        """
        how = "is wrong" if failed.failure == "correctness" else "fails"
        return NotCompared(f"built again, one {how}: {failed.detail}", failed)


class Executor(Protocol):
    def measure(self, task: Task, configs: Sequence[Values]) -> Iterator[tuple[int, Measurement]]:
        """
        The place of a config in `configs` and what trying it gave, as they come; each once, but
        those that there was no time for. Closed early, the others are dropped.

        However a candidate fails, it is a measurement. Raises QccErrors for what is the fault of
        none of them.
        """
        ...

    def compare(self, task: Task, configs: Sequence[Values], rounds: int) -> Rounds | NotCompared:
        """Configs that worked, built again, run in turns on the idle device."""
        ...

    def close(self) -> None:
        """Stop all that still runs."""
        ...

"""What is tuned, how, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..dialects.knobs import Space, Value
from .related import Related
from .task import Task
from .time_limit import ENDLESS, TimeLimit
from .trials import Trials


@dataclass(frozen=True, slots=True)
class Job:
    """
    A task, what can be chosen, and what is used unless something is clearly faster.

    `starts` are tried first: what was best for similar tasks, where this space has it. `prior`
    names the number that the space derives which is known to be near the seconds, if there is one.
    `others` are tasks whose trials the search learns from before its own.
    """

    task: Task
    space: Space
    default: Mapping[str, Value]
    starts: tuple[Mapping[str, Value], ...] = ()
    prior: str = ""
    others: tuple[Related, ...] = ()


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """
    `trials` of a task, to `resume` with those recorded before included; `strategy` names the
    search in records. `batch` configs are proposed at a time; the `finalists` fastest are compared
    with the default in `rounds`, and must win by `margin`. Once `limit` is over nothing is begun.
    """

    trials: int
    strategy: str
    seed: int = 0
    batch: int = 8
    finalists: int = 3
    rounds: int = 15
    margin: float = 0.02
    resume: bool = False
    limit: TimeLimit = ENDLESS


@dataclass(slots=True)
class Tuned:
    """
    What is known of a job. `best` are the values to use; `seconds` theirs and `default_seconds`
    the default's, measured in turns where both worked and `best` is not the default.
    """

    job: Job
    trials: Trials
    repeated: int
    """Trials that were recorded before."""
    legal_share: float
    best: dict[str, Value] = field(default_factory=dict)
    seconds: float | None = None
    default_seconds: float | None = None
    stopped: str = ""
    note: str = ""

    @property
    def measured(self) -> int:
        return len(self.trials) - self.repeated

    @property
    def tried(self) -> bool:
        """Not where no time was left for it."""
        return len(self.trials) > 0

    @property
    def failures(self) -> dict[str, int]:
        return dict(Counter(each.failure for each in self.trials.trials if each.failure))

    @property
    def speedup(self) -> float | None:
        """The default's seconds over those of what to use; None where one of them is not known."""
        if self.default_seconds is None or self.seconds is None:
            return None
        return self.default_seconds / self.seconds

    @property
    def kept_default(self) -> bool:
        return self.best == dict(self.job.default)

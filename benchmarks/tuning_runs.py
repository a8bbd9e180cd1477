"""One run of a search on a recorded space, and where runs are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.made_up_kernels import made_up
from benchmarks.peers.kernel_tuner import kernel_tuner_curve
from qcc.autotune.recorded import Recording, read_recording
from qcc.autotune.search import SEARCHES, Search
from qcc.autotune.search.guided import GuidedSearch
from qcc.autotune.transfer import Sources
from qcc.autotune.trials import Trial, Trials
from qcc.dialects.errors import IntegrityError
from qcc.dialects.knobs import Space

BATCH, BUDGET = 4, 256
PEER_BUDGET = 600
"""Kernel Tuner's strategies plan for their budget; some end long before."""
MADE_UP = "made-up"
Curve = list[float]
Runner = Callable[[int], Curve]


@dataclass(frozen=True)
class Subject:
    """A recording, and its file, if it has one, which peers read themselves."""

    name: str
    recording: Recording
    path: Path | None = None


def subjects_of(place: str, console: Console) -> list[Subject]:
    """
    Of the recordings in a folder, or of kernels that do not exist. Other JSON, such as the T1 files
    that lie beside recordings, is named and left out.
    """
    if place == MADE_UP:
        return [Subject(each.device.replace(" ", "_"), each) for each in made_up()]
    folder, subjects = Path(place), []
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.json.gz")]):
        try:
            subjects.append(Subject(path.name.split(".")[0], read_recording(path), path))
        except IntegrityError as error:
            console.print(f"left out: {error}", markup=False)
    return subjects


def relatives(subject: Subject, subjects: Sequence[Subject]) -> list[Subject]:
    """The same kernel on other devices: other recordings of the same knobs."""
    knobs = subject.recording.space.knobs
    return [o for o in subjects if o is not subject and o.recording.space.knobs == knobs]


def replayed(recording: Recording, search: Search, batch: int) -> Curve:
    """Best-so-far seconds of a run as long as the budget; what follows the optimum is known."""
    trials = Trials()
    while len(trials) < BUDGET and not _done(recording, trials):
        configs = search.propose(trials, min(batch, BUDGET - len(trials)))
        if not len(configs):
            break
        trials.add(recording.measure(configs))
    curve = trials.best_so_far().tolist()
    return curve + curve[-1:] * (BUDGET - len(curve))


def _done(recording: Recording, trials: Trials) -> bool:
    return trials.best is not None and trials.best.seconds == recording.optimum


def own_runner(subject: Subject, strategy: str, batch: int = BATCH) -> Runner:
    def run(seed: int) -> Curve:
        space = subject.recording.space
        search = SEARCHES[strategy].make(space, np.random.default_rng(seed))
        return replayed(subject.recording, search, batch)

    return run


def transfer_runner(subject: Subject, others: Sequence[Subject]) -> Runner:
    """What the others measured, as configs of this space; learnt once for all seeds."""
    space = subject.recording.space
    known: list[Sources] = []

    def run(seed: int) -> Curve:
        if not known:
            known.append(Sources.of(space, [trials_of(other, space) for other in others]))
        search = GuidedSearch(space, np.random.default_rng(seed), known=known[0])
        return replayed(subject.recording, search, BATCH)

    return run


def trials_of(subject: Subject, space: Space) -> Trials:
    """All that was measured, as configs of `space`, whose knobs are the same."""
    own = subject.recording.space
    return Trials(
        [
            Trial(space.config(own.values(trial.config)), trial.seconds, trial.failure)
            for trial in subject.recording.measure(subject.recording.configs)
        ]
    )


def peer_runner(path: Path, strategy: str) -> Runner:
    return lambda seed: kernel_tuner_curve(path, strategy, seed, PEER_BUDGET)


class State:
    """
    What runs gave, by name; in a file, if there is one, a line of JSON for each, once done. What a
    killed benchmark left of a line is dropped.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.results: dict[str, Any] = {}
        if path is not None and path.exists():
            text, _, cut = path.read_text().rpartition("\n")
            for line in text.splitlines():
                run = json.loads(line)
                self.results[run.pop("run")] = run
            if cut:
                path.write_text(text + "\n" if text else "")

    def kept(self, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in self.results:
            self.results[name] = run()
            if self.path is not None:
                with self.path.open("a") as file:
                    file.write(json.dumps({"run": name, **self.results[name]}) + "\n")
        return self.results[name]

    def has(self, strategy: str, space: str, seed: int) -> bool:
        return f"{strategy}/{space}/{seed}" in self.results

    def curve(self, strategy: str, space: str, seed: int, run: Runner) -> NDArray[np.float64]:
        kept = self.kept(f"{strategy}/{space}/{seed}", lambda: _steps_of(run(seed)))
        curve = np.full(kept["count"], np.inf)
        for place, seconds in kept["steps"]:
            curve[place:] = seconds
        return curve[:BUDGET]


def _steps_of(curve: Curve) -> dict[str, Any]:
    """Where a best-so-far curve falls, [place, seconds], and how long it is."""
    steps = [
        [place, value]
        for place, value in enumerate(curve)
        if np.isfinite(value) and (place == 0 or value < curve[place - 1])
    ]
    return {"count": len(curve), "steps": steps}

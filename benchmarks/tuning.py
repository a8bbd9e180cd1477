"""
Searches compared on recorded spaces: how many measurements each takes to come near the optimum.

    python -m benchmarks.tuning FOLDER [--seeds 20] [--kernel-tuner] [--transfer]

FOLDER holds cache files of Kernel Tuner (*.json, *.json.gz), for example from the FAIR benchmark
hub for auto-tuning, doi 10.5281/zenodo.15364124. Runs are kept in --state, so that a stopped
benchmark goes on where it was. With --kernel-tuner its strategies are run through its own package,
if that is installed, on the same files. With --transfer each space is tuned with what the other
spaces of the same knobs know.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.peers.kernel_tuner import KERNEL_TUNER_STRATEGIES, kernel_tuner_curve
from qcc.autotune.recorded import Recording, read_recording
from qcc.autotune.score import measurements_to, methodology_score
from qcc.autotune.search import SEARCHES, Search
from qcc.autotune.search.guided import GuidedSearch
from qcc.autotune.transfer import Sources
from qcc.autotune.trials import Trial, Trials
from qcc.dialects.knobs import Space

BATCH, BUDGET = 8, 256
TRANSFER_BATCH = 4
OURS = ("distinctive", "guided", "model-annealing", "evolution", "annealing", "random")
Curve = list[float]
Runner = Callable[[int], Curve]
Curves = dict[tuple[str, str], list[NDArray[np.float64]]]


@dataclass(frozen=True)
class Subject:
    """A recording, and its file, which peers read themselves."""

    path: Path
    recording: Recording

    @property
    def name(self) -> str:
        return self.path.name.split(".")[0]


def replayed(recording: Recording, search: Search, batch: int) -> Curve:
    """Best-so-far seconds of one run of a search, as long as the budget."""
    trials = Trials()
    while len(trials) < BUDGET:
        configs = search.propose(trials, min(batch, BUDGET - len(trials)))
        if not len(configs):
            break
        trials.add(recording.measure(configs))
    return trials.best_so_far().tolist()


def own_runner(subject: Subject, strategy: str) -> Runner:
    def run(seed: int) -> Curve:
        space = subject.recording.space
        search = SEARCHES[strategy].make(space, np.random.default_rng(seed))
        return replayed(subject.recording, search, BATCH)

    return run


def transfer_runner(subject: Subject, relatives: Sequence[Subject]) -> Runner:
    """What the relatives measured, as configs of this space; known once for all seeds."""
    space = subject.recording.space
    known: list[Sources] = []

    def run(seed: int) -> Curve:
        if not known:
            known.append(Sources.of(space, [_trials_of(other, space) for other in relatives]))
        search = GuidedSearch(space, np.random.default_rng(seed), known=known[0])
        return replayed(subject.recording, search, TRANSFER_BATCH)

    return run


def _trials_of(subject: Subject, space: Space) -> Trials:
    """All that was measured, as configs of `space`, whose knobs are the same."""
    own = subject.recording.space
    members = np.zeros((0, len(own.knobs)), np.int64) if own.members is None else own.members
    return Trials(
        [
            Trial(space.config(own.values(trial.config)), trial.seconds, trial.failure)
            for trial in subject.recording.measure(members)
        ]
    )


def runners(
    subjects: Sequence[Subject], options: argparse.Namespace
) -> Iterator[tuple[str, Subject, Runner]]:
    """Everything that is to be run: strategy, space, run of one seed."""
    for subject in subjects:
        for strategy in options.strategies:
            yield strategy, subject, own_runner(subject, strategy)
        if options.kernel_tuner:
            for strategy in KERNEL_TUNER_STRATEGIES:
                yield f"kernel tuner {strategy}", subject, _peer(subject, strategy)
        relatives = [o for o in subjects if o is not subject and _related(o, subject)]
        if options.transfer and relatives:
            yield "transfer", subject, transfer_runner(subject, relatives)


def _peer(subject: Subject, strategy: str) -> Runner:
    return lambda seed: kernel_tuner_curve(subject.path, strategy, seed, BUDGET)


def _related(one: Subject, other: Subject) -> bool:
    return one.recording.space.knobs == other.recording.space.knobs


class State:
    """Curves by strategy, space and seed, kept in a file after each run."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        kept = path is not None and path.exists()
        self.curves: dict[str, Curve] = json.loads(path.read_text()) if kept and path else {}

    def curve(self, strategy: str, space: str, seed: int, run: Runner) -> np.ndarray:
        key = f"{strategy}/{space}/{seed}"
        if key not in self.curves:
            self.curves[key] = run(seed)
            if self.path is not None:
                spare = self.path.with_suffix(".new")
                spare.write_text(json.dumps(self.curves))
                spare.replace(self.path)
        return np.array(self.curves[key])


def table(
    title: str, names: Iterable[str], cells: dict[tuple[str, str], float], digits: int
) -> Table:
    """Strategies down, spaces across; the last column is the mean, geometric for counts."""
    shown = Table(title=title)
    shown.add_column("search", no_wrap=True)
    for name in names:
        shown.add_column(name.replace("_", " "), justify="right")
    shown.add_column("mean" if digits else "geometric mean", justify="right")
    for strategy in dict.fromkeys(strategy for strategy, _ in cells):
        row = [cells.get((strategy, name), float("nan")) for name in names]
        capped = [min(value, BUDGET) for value in row]
        mean = np.mean(row) if digits else np.exp(np.mean(np.log(capped)))
        shown.add_row(strategy, *(_text(value, digits) for value in row), _text(float(mean), 2))
    return shown


def _text(value: float, digits: int) -> str:
    if np.isnan(value):
        return "-"
    return f"> {BUDGET}" if np.isinf(value) else f"{value:.{digits}f}"


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--strategies", nargs="+", default=list(OURS), choices=sorted(SEARCHES))
    parser.add_argument("--kernel-tuner", action="store_true")
    parser.add_argument("--transfer", action="store_true")
    parser.add_argument("--state", type=Path)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    options, console = arguments(words), Console()
    paths = sorted([*options.folder.glob("*.json"), *options.folder.glob("*.json.gz")])
    if not paths:
        console.print(f"no recordings in {options.folder}: give a folder of *.json or *.json.gz")
        return 2
    subjects = [Subject(path, read_recording(path)) for path in paths]
    state = State(options.state)
    curves: Curves = {}
    jobs = list(runners(subjects, options))
    for strategy, subject, run in track(jobs, "replaying", console=console, transient=True):
        curves[strategy, subject.name] = [
            state.curve(strategy, subject.name, seed, run) for seed in range(options.seeds)
        ]
    for shown in tables(subjects, curves, options.seeds):
        console.print(shown)
    return 0


def tables(subjects: Sequence[Subject], curves: Curves, seeds: int) -> Iterator[Table]:
    recordings = {subject.name: subject.recording for subject in subjects}
    for share in (0.95, 0.99):
        cells = {
            (strategy, name): float(
                np.median([measurements_to(share, run, recordings[name].optimum) for run in runs])
            )
            for (strategy, name), runs in curves.items()
        }
        title = f"measurements to {share:.0%} of the optimum, median of {seeds} seeds"
        yield table(title, recordings, cells, 0)
    scores = {
        (strategy, name): methodology_score(runs, recordings[name])
        for (strategy, name), runs in curves.items()
    }
    yield table("methodology score (0 random, 1 optimum at once)", recordings, scores, 3)


if __name__ == "__main__":
    sys.exit(main())

"""
How well cost models order configs that they have not seen: devices and shapes held out.

    python -m benchmarks.ranking PLACE [--output FOLDER]

PLACE as of benchmarks.tuning. Each recording whose knobs another one shares is held out in turn;
the trees learn the others. Beside them: the mean of what each other recording says by itself, a
Gaussian process of 64 configs of the held-out recording, and, of made-up kernels, a roofline that
saw no measurement. Printed are Spearman's correlation over all configs that work, and which share
of the ten fastest is among the first 10, 32 and 128 in the predicted order. With --output a
Markdown table and a plot of each held-out recording (predicted against true rank) are written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.made_up_kernels import MadeUp
from benchmarks.ranking_plot import rank_plot
from benchmarks.tuning_runs import MADE_UP, Subject, relatives, subjects_of, trials_of
from benchmarks.tuning_tables import Table
from qcc.autotune.cost_model.boosted_trees import BoostedTrees, TreeOptions
from qcc.autotune.cost_model.gaussian_process import GaussianProcess
from qcc.autotune.draw import draw
from qcc.autotune.features import Encoder
from qcc.autotune.transfer import Sources
from qcc.autotune.trials import Trials
from qcc.dialects.knobs import Configs

OWN_TRIALS, SAMPLE, TRAINED_ON = 64, 2048, 2000
RANKED = TreeOptions(members=4, rounds=200, depth=8, rate=0.1)
TOP, FIRST = 10, (10, 32, 128)
Numbers = NDArray[np.float64]
Model = Callable[[Configs], Numbers]


@dataclass(frozen=True)
class Quality:
    """Of one model on one recording; `recalls` of the ten fastest, by how many are looked at."""

    recording: str
    model: str
    spearman: float
    recalls: tuple[float, ...]


def quality(name: str, model: str, predicted: Numbers, seconds: Numbers) -> Quality:
    """Both [configs], nan seconds where a config failed."""
    good = ~np.isnan(seconds)
    predicted, seconds = predicted[good], seconds[good]
    best = np.argsort(seconds, kind="stable")[:TOP]
    order = np.argsort(predicted, kind="stable")
    recalls = tuple(float(np.isin(best, order[:count]).mean()) for count in FIRST)
    ranks = [np.argsort(np.argsort(each, kind="stable")) for each in (predicted, seconds)]
    return Quality(name, model, float(np.corrcoef(ranks[0], ranks[1])[0, 1]), recalls)


def models(
    subject: Subject, others: Sequence[Subject], seed: int = 0
) -> Iterator[tuple[str, Model]]:
    space = subject.recording.space
    known = [_some(trials_of(other, space), seed) for other in others]
    encode = Encoder.of(space, draw(space, np.random.default_rng(seed), SAMPLE))
    yield "trees, ranked together", _ranked(encode, known, seed)
    sources = Sources.of(space, known, seed)
    yield "mean of the sources", lambda configs: sources(configs).mean(axis=1)
    yield f"Gaussian process of {OWN_TRIALS} own", _own(subject, encode, seed)
    if isinstance(subject.recording, MadeUp):
        roofline = subject.recording.roofline()
        yield "roofline, no data", lambda configs: roofline.predict(configs).mean


def _some(trials: Trials, seed: int) -> Trials:
    rng = np.random.default_rng(seed)
    taken = rng.permutation(len(trials))[:TRAINED_ON]
    return Trials([trials.trials[place] for place in taken])


def _ranked(encode: Encoder, known: Sequence[Trials], seed: int) -> Model:
    """One model of all sources, each a group whose order it learns."""
    trees = BoostedTrees(RANKED, seed)
    trees.update(
        encode(np.concatenate([trials.configs for trials in known])),
        np.concatenate([trials.log_times for trials in known]),
        np.repeat(np.arange(len(known)), [len(trials) for trials in known]),
    )
    return lambda configs: trees.predict(encode(configs)).mean


def _own(subject: Subject, encode: Encoder, seed: int) -> Model:
    recording = subject.recording
    drawn = draw(recording.space, np.random.default_rng(seed), OWN_TRIALS)
    trials = Trials(recording.measure(drawn))
    model = GaussianProcess()
    model.update(encode(trials.configs), trials.log_times)
    return lambda configs: model.predict(encode(configs)).mean


def table(found: Sequence[Quality]) -> Table:
    columns = ("held out", "model", "Spearman", *(f"top {TOP} in first {n}" for n in FIRST))
    rows = [
        (q.recording, q.model, f"{q.spearman:.2f}", *(f"{recall:.0%}" for recall in q.recalls))
        for q in found
    ]
    for model in dict.fromkeys(q.model for q in found):
        own = [q for q in found if q.model == model]
        recalls = np.mean([q.recalls for q in own], axis=0)
        mean = float(np.mean([q.spearman for q in own]))
        rows.append(("mean", model, f"{mean:.2f}", *(f"{recall:.0%}" for recall in recalls)))
    return Table("Ranking of configs on held-out devices and shapes", columns, tuple(rows))


def main(words: Sequence[str] | None = None) -> int:
    options, console = _arguments(words), Console()
    subjects = subjects_of(options.place, console)
    held_out = [(each, others) for each in subjects if (others := relatives(each, subjects))]
    if not held_out:
        console.print(f"no two recordings of the same knobs in {options.place}")
        return 2
    found: list[Quality] = []
    for subject, others in held_out:
        configs, seconds = subject.recording.configs, subject.recording.seconds
        predictions = {name: model(configs) for name, model in models(subject, others)}
        found += [quality(subject.name, m, each, seconds) for m, each in predictions.items()]
        if options.output is not None:
            plot = rank_plot(subject.name, predictions, seconds)
            (options.output / f"ranking-{subject.name}.svg").write_text(plot)
    shown = table(found)
    console.print(shown.rich(options.place if options.place == MADE_UP else ""))
    if options.output is not None:
        plots = "\n".join(f"![{s.name}](ranking-{s.name}.svg)" for s, _ in held_out)
        head = "Printed by `benchmarks.ranking`; what the columns mean is in its help.\n"
        text = f"# Ranking quality\n\n{head}\n{shown.markdown()}\n{plots}\n"
        (options.output / f"{_stem(options.place)}.md").write_text(text)
    return 0


def _stem(place: str) -> str:
    return f"ranking-{MADE_UP}" if place == MADE_UP else "ranking"


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranking", description=__doc__)
    parser.add_argument("place")
    parser.add_argument("--output", type=Path)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())

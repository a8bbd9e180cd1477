"""
How well cost models order the schedules of a shape that they have not seen, by shipped trials.

    python -m benchmarks.held_out_shapes [--database F] [--output FOLDER]

Trials are times of linear layers on a CPU: those that ship with qcc, or of F. Each shape (outputs x
inputs) is left out in turn, with all its rows of x and formats; models learn from the four nearest
tasks of other shapes, which are those that `qcc tune` would take, and order the trials of each task
that was left out. Printed, by shape: the mean of Spearman's correlation with the measured times,
which share of the ten fastest (of `trials` in a task) is among the first 10, and the time of the
first over that of the fastest. `any order` is what an order by chance has. With --output a
Markdown table and a plot are written: ranks within each task, of all tasks together.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.console import say
from benchmarks.ranking import RANKED, SAMPLE, TOP
from benchmarks.ranking_plot import rank_plot
from qcc.autotune.cost_model.boosted_trees import BoostedTrees
from qcc.autotune.database import Collection, Entry, Store, open_store
from qcc.autotune.database.shipped import shipped_trials
from qcc.autotune.draw import draw
from qcc.autotune.features import Encoder
from qcc.autotune.measurement import trials_of
from qcc.autotune.related import related
from qcc.autotune.task import Task
from qcc.autotune.transfer import Sources
from qcc.autotune.trials import Trials
from qcc.codegen.cpu.features import host_features
from qcc.compiler.console import table
from qcc.compiler.tuning.cpu_backend import cpu_linear
from qcc.dialects.cpu.space import KERNEL, linear_space
from qcc.dialects.knobs import Space

SOURCES, TOGETHER, CHANCE = "mean of the sources", "trees, ranked together", "any order"
NAME = "ranking-shapes"
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """A task that was left out: seconds of its trials, and what models expect, [trials]."""

    task: Task
    seconds: Numbers
    expected: dict[str, Numbers]


def judged(store: Store) -> Iterator[Judged]:
    for task in store.tasks():
        if task.kernel == KERNEL and (found := _judged(store, task)):
            yield found


def _judged(store: Store, task: Task) -> Judged | None:
    space = linear_space(cpu_linear(task)[1], int(task.problem["m"]), frozenset(host_features()))
    own = Trials([each for each in trials_of(space, store.measurements(task)) if each.seconds])
    others = [each.trials for each in related(task, space, [_without(store, shape(task))])]
    if not others or len(own) <= TOP:
        return None
    expected = {
        TOGETHER: _together(space, others, own),
        SOURCES: Sources.of(space, others)(own.configs).mean(axis=1),
        CHANCE: np.random.default_rng(int(task.key, 16)).random(len(own)),
    }
    return Judged(task, np.exp(own.log_times), expected)


def shape(task: Task) -> str:
    return f"{task.problem['n']}x{task.problem['k']}"


def _without(store: Store, left_out: str) -> Store:
    """All tasks of other shapes."""
    kept = [task for task in store.tasks() if task.kernel == KERNEL and shape(task) != left_out]
    return Collection(Entry(task, each) for task in kept for each in store.measurements(task))


def _together(space: Space, others: Sequence[Trials], own: Trials) -> Numbers:
    """By one model of all, each task a group whose order it learns."""
    encode = Encoder.of(space, draw(space, np.random.default_rng(0), SAMPLE))
    trees = BoostedTrees(RANKED, 0)
    trees.update(
        encode(np.concatenate([each.configs for each in others])),
        np.concatenate([each.log_times for each in others]),
        np.repeat(np.arange(len(others)), [len(each) for each in others]),
    )
    return trees.predict(encode(own.configs)).mean


def quality(found: Judged, model: str) -> tuple[float, float, float]:
    """Spearman's correlation, recall of the ten fastest, and the slowdown of the first."""
    expected, seconds = found.expected[model], found.seconds
    best = np.argsort(seconds, kind="stable")[:TOP]
    first = np.argsort(expected, kind="stable")
    correlation = np.corrcoef(rankdata(expected), rankdata(seconds))[0, 1]
    recall = np.isin(best, first[:TOP]).mean()
    return float(correlation), float(recall), float(seconds[first[0]] / seconds.min())


def rows_of(found: Sequence[Judged]) -> list[dict[str, str]]:
    shapes: dict[str, list[Judged]] = defaultdict(list)
    for each in found:
        shapes[shape(each.task)].append(each)
    return [
        {
            "held out": name, "tasks": str(len(tasks)), "trials": _count(tasks), "model": model,
            "Spearman": f"{mean[0]:.2f}", f"top {TOP} in first {TOP}": f"{mean[1]:.0%}",
            "first, of the best": f"{mean[2]:.2f}",
        }
        for name, tasks in [*shapes.items(), ("all", list(found))]
        for model in (TOGETHER, SOURCES, CHANCE)
        for mean in [np.mean([quality(each, model) for each in tasks], axis=0)]
    ]  # fmt: skip


def _count(tasks: Sequence[Judged]) -> str:
    least, most = (pick(len(each.seconds) for each in tasks) for pick in (min, max))
    return str(most) if least == most else f"{least}-{most}"


def plot(found: Sequence[Judged]) -> str:
    """Ranks within each task, from 0 to 1, of all tasks together."""

    def ranks(values: Numbers) -> Numbers:
        return (rankdata(values) - 1) / (len(values) - 1)

    pooled = {model: np.concatenate([ranks(each.expected[model]) for each in found])
              for model in (TOGETHER, SOURCES, CHANCE)}  # fmt: skip
    return rank_plot("shapes held out", pooled, np.concatenate([ranks(f.seconds) for f in found]))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--database", type=Path, help="by default what ships with qcc")
    parser.add_argument("--output", type=Path, metavar="FOLDER")
    options = parser.parse_args(words)
    store = open_store(options.database) if options.database else shipped_trials()
    found = list(judged(store))
    if not found:
        say("no two shapes have trials")
        return 2
    rows = rows_of(found)
    say(table(rows, list(rows[0])))
    if options.output is not None:
        (options.output / f"{NAME}.svg").write_text(plot(found))
        (options.output / f"{NAME}.md").write_text(markdown(rows))
    return 0


def markdown(rows: Sequence[dict[str, str]]) -> str:
    lines = [
        [*rows[0]],
        ["---", *["---:"] * (len(rows[0]) - 1)],
        *([*row.values()] for row in rows),
    ]
    shown = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    head = "Printed by `benchmarks.held_out_shapes`; what the columns mean is in its help."
    return f"# Ranking quality on held-out shapes\n\n{head}\n\n{shown}\n\n![ranks]({NAME}.svg)\n"


if __name__ == "__main__":
    sys.exit(main())

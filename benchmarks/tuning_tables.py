"""What runs on recorded spaces say: medians of measurements, and the methodology score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table as RichTable

from benchmarks.tuning_runs import BUDGET
from qcc.autotune.recorded import Recording
from qcc.autotune.score import measurements_to, methodology_score

Curves = dict[tuple[str, str], list[NDArray[np.float64]]]
Numbers = NDArray[np.float64]
Cells = Mapping[tuple[str, str], Numbers]
"""By search and space: a median over seeds, and those of DRAWS draws of seeds, [1 + DRAWS]."""
DRAWS, INTERVAL = 1000, "95% of draws of seeds"
OURS = ("distinctive", "guided", "transfer")
PEERS, BEST = "kernel tuner ", "the best of each"
BY = " by "
"""Between a search's name and how many it proposes at a time."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a title."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self, caption: str) -> RichTable:
        shown = RichTable(title=self.title, caption=caption)
        shown.add_column(self.columns[0], no_wrap=True)
        for name in self.columns[1:]:
            shown.add_column(name.replace("_", " "), justify="right")
        for row in self.rows:
            shown.add_row(*row)
        return shown

    def markdown(self) -> str:
        lines = [self.columns, ("---", *("---:" for _ in self.columns[1:])), *self.rows]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"## {self.title}\n\n{text}\n"


def tables(recordings: Mapping[str, Recording], curves: Curves) -> list[Table]:
    shown, names, rng = [], list(recordings), np.random.default_rng(0)
    for share in (0.95, 0.99):
        cells = {
            (strategy, name): _medians(
                [measurements_to(share, run, recordings[name].optimum) for run in runs], rng
            )
            for (strategy, name), runs in curves.items()
        }
        shown.append(
            _counts(f"Median of the measurements to {share:.0%} of the optimum", names, cells)
        )
        if share == 0.95 and (against := _against_others(names, cells)).rows:
            shown.append(against)
    scores = {
        (strategy, name): methodology_score(runs, recordings[name])
        for (strategy, name), runs in curves.items()
    }
    shown.append(_scores(names, scores))
    runs = {place: len(each) for place, each in curves.items()}
    if len(set(runs.values())) > 1:
        shown.append(_runs(names, runs))
    return shown


def _medians(counts: Sequence[float], rng: np.random.Generator) -> Numbers:
    """Of the runs, and then of as many drawn anew from them: [1 + DRAWS]."""
    runs = np.array(counts)
    drawn = runs[rng.integers(len(runs), size=(DRAWS, len(runs)))]
    return np.append(np.median(runs), np.median(drawn, axis=1))


def _counts(title: str, names: Sequence[str], cells: Cells) -> Table:
    rows = []
    for strategy in _strategies(cells):
        row = [cells.get((strategy, name), np.full(1 + DRAWS, np.nan)) for name in names]
        shown = [_text(each[0], 0) for each in row]
        rows.append((strategy, *shown, *_with_interval(_geometric(row), 1)))
    return Table(title, ("search", *names, "geometric mean", INTERVAL), tuple(rows))


def _scores(names: Sequence[str], cells: Mapping[tuple[str, str], float]) -> Table:
    rows = []
    for strategy in _strategies(cells):
        row = [cells.get((strategy, name), float("nan")) for name in names]
        rows.append((strategy, *(_text(each, 3) for each in (*row, float(np.mean(row))))))
    title = "Methodology score (0 random search, 1 the optimum at once)"
    return Table(title, ("search", *names, "mean"), tuple(rows))


def _runs(names: Sequence[str], cells: Mapping[tuple[str, str], int]) -> Table:
    rows = [
        (strategy, *(str(cells.get((strategy, name), 0)) for name in names))
        for strategy in _strategies(cells)
    ]
    return Table("Runs behind each cell", ("search", *names), tuple(rows))


def _strategies(cells: Mapping[tuple[str, str], object]) -> list[str]:
    return list(dict.fromkeys(strategy for strategy, _ in cells))


def _geometric(counts: Sequence[Numbers] | Numbers) -> Numbers:
    """Over the spaces; runs that never came near count as the budget."""
    return np.exp(np.mean(np.log(np.minimum(counts, BUDGET)), axis=0))


def _with_interval(values: Numbers, digits: int) -> tuple[str, str]:
    if np.isnan(values).any():
        return "-", "-"
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return _text(values[0], digits), f"{low:.{digits}f} to {high:.{digits}f}"


def _is_rival(strategy: str) -> bool:
    return strategy.split(BY)[0] not in OURS


def _against_others(names: Sequence[str], cells: Cells) -> Table:
    """Our measurements by those of searches that ran on all spaces, and of the best of each."""
    ran = _strategies(cells)
    whole = [s for s in ran if all((s, name) in cells for name in names)]
    counts = {s: np.minimum([cells[s, name] for name in names], BUDGET) for s in whole}
    rivals = sorted((s for s in whole if _is_rival(s)), key=lambda s: _geometric(counts[s])[0])
    others = {s: counts[s] for s in (*rivals[:1], *_first_of(PEERS, rivals))}
    if rivals:
        others[BEST] = np.array([_least(name, cells) for name in names])
    rows = [
        _shares(own, other, counts[own] / theirs)
        for own in OURS
        if own in whole
        for other, theirs in others.items()
    ]
    if "transfer" in whole and "distinctive" in whole:
        shares = counts["transfer"] / counts["distinctive"]
        rows.append(_shares("transfer", "distinctive", shares))
    title = "Share of another search's measurements to 95%"
    return Table(title, ("searches", *names, "geometric mean", INTERVAL), tuple(rows))


def _least(name: str, cells: Cells) -> Numbers:
    """The fewest of any other search on a space."""
    ran = [counts for (s, where), counts in cells.items() if where == name and _is_rival(s)]
    return np.min([*ran, np.full(1 + DRAWS, BUDGET)], axis=0)


def _first_of(prefix: str, strategies: Sequence[str]) -> list[str]:
    return [s for s in strategies if s.startswith(prefix)][:1]


def _shares(own: str, other: str, shares: Numbers) -> tuple[str, ...]:
    """`shares` [spaces, 1 + DRAWS]."""
    shown = (f"{share[0]:.2f}" for share in shares)
    return (f"{own} / {other}", *shown, *_with_interval(_geometric(shares), 2))


def _text(value: float, digits: int) -> str:
    if np.isnan(value):
        return "-"
    return f"> {BUDGET}" if np.isinf(value) else f"{value:.{digits}f}"

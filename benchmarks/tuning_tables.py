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
Cells = Mapping[tuple[str, str], float]
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
    shown = []
    for share in (0.95, 0.99):
        cells = {
            (strategy, name): float(
                np.median([measurements_to(share, run, recordings[name].optimum) for run in runs])
            )
            for (strategy, name), runs in curves.items()
        }
        title = f"Median of the measurements to {share:.0%} of the optimum"
        shown.append(_table(title, list(recordings), cells, 0))
        if share == 0.95 and (against := _against_others(list(recordings), cells)).rows:
            shown.append(against)
    scores = {
        (strategy, name): methodology_score(runs, recordings[name])
        for (strategy, name), runs in curves.items()
    }
    title = "Methodology score (0 random search, 1 the optimum at once)"
    shown.append(_table(title, list(recordings), scores, 3))
    runs = {place: float(len(each)) for place, each in curves.items()}
    if len(set(runs.values())) > 1:
        shown.append(_table("Runs behind each cell", list(recordings), runs, 0))
    return shown


def _table(title: str, names: Sequence[str], cells: Cells, digits: int) -> Table:
    """Strategies down, spaces across; the last column is the mean, geometric for counts."""
    rows = []
    for strategy in dict.fromkeys(strategy for strategy, _ in cells):
        row = [cells.get((strategy, name), float("nan")) for name in names]
        mean = float(np.mean(row)) if digits else _geometric(row)
        rows.append((strategy, *(_text(value, digits) for value in row), _text(mean, digits or 1)))
    return Table(title, ("search", *names, "mean" if digits else "geometric mean"), tuple(rows))


def _geometric(counts: Sequence[float]) -> float:
    """Runs that never came near count as the budget."""
    return float(np.exp(np.mean(np.log(np.minimum(counts, BUDGET)))))


def _is_rival(strategy: str) -> bool:
    return strategy.split(BY)[0] not in OURS


def _against_others(names: Sequence[str], cells: Cells) -> Table:
    """Our measurements by those of searches that ran on all spaces, and of the best of each."""
    ran = list(dict.fromkeys(strategy for strategy, _ in cells))
    whole = [s for s in ran if all((s, name) in cells for name in names)]
    counts = {s: [min(cells[s, name], BUDGET) for name in names] for s in whole}
    rivals = sorted((s for s in whole if _is_rival(s)), key=lambda s: _geometric(counts[s]))
    others = {s: counts[s] for s in (*rivals[:1], *_first_of(PEERS, rivals))}
    if rivals:
        others[BEST] = [
            min(BUDGET, *(cells[s, name] for s in ran if _is_rival(s) and (s, name) in cells))
            for name in names
        ]
    rows = [
        _shares(own, other, counts[own], theirs)
        for own in OURS
        if own in whole
        for other, theirs in others.items()
    ]
    if "transfer" in whole and "distinctive" in whole:
        rows.append(_shares("transfer", "distinctive", counts["transfer"], counts["distinctive"]))
    title = "Share of another search's measurements to 95%"
    return Table(title, ("searches", *names, "geometric mean"), tuple(rows))


def _first_of(prefix: str, strategies: Sequence[str]) -> list[str]:
    return [s for s in strategies if s.startswith(prefix)][:1]


def _shares(
    own: str, other: str, ours: Sequence[float], theirs: Sequence[float]
) -> tuple[str, ...]:
    shares = [a / b for a, b in zip(ours, theirs, strict=True)]
    return (f"{own} / {other}", *(f"{share:.2f}" for share in (*shares, _geometric(shares))))


def _text(value: float, digits: int) -> str:
    if np.isnan(value):
        return "-"
    return f"> {BUDGET}" if np.isinf(value) else f"{value:.{digits}f}"

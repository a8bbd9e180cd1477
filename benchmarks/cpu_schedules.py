"""
Tuned schedules of linear layers on this processor against the defaults, for shapes of models.

    python -m benchmarks.cpu_schedules [--trials 32] [--threads 1] [--models SmolLM2-135M,GPT-2]
        [--formats "int4<group=32>"] [--tokens 6,12,20,128] [--database F]

Each layer is tuned as `qcc tune` tunes it. Then default and winner run in turns once more, which
the tuner has not seen: printed is the median of the default's seconds over the winner's in each
round, and the quartiles. Where the tuner kept the default there is nothing to win or lose. Goal:
no layer loses more than 2 %. A stopped run goes on where it was, by its database.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from math import exp, log
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from qcc.autotune.database import Database
from qcc.autotune.measure.backend import BackendName
from qcc.autotune.measure.executors.base import NotCompared
from qcc.autotune.search import SEARCHES
from qcc.autotune.tuned import Tuned
from qcc.codegen.cpu.features import host_features
from qcc.compiler.console import Lines
from qcc.compiler.doctor import cpu_model
from qcc.compiler.tuning.cpu_jobs import BACKEND, cpu_jobs
from qcc.compiler.tuning.model_jobs import Tunable
from qcc.compiler.tuning.session import SessionOptions, make_executor, run_session
from qcc.dialects.cpu.default_schedule import default_schedule
from qcc.dialects.cpu.schedule import LinearProblem, ScheduledLayer

MODELS = {
    "SmolLM2-135M": ((576, 576), (192, 576), (1536, 576), (576, 1536)),
    "GPT-2": ((2304, 768), (768, 768), (3072, 768), (768, 3072)),
    "MiniLM": ((384, 384), (1536, 384), (384, 1536)),
}
ROUNDS, GOAL = 31, 0.98


def layers(models: Sequence[str], formats: Sequence[str], tokens: int) -> list[ScheduledLayer]:
    """`formats` as tasks spell them: weights, and " x " what x is rounded to."""
    made = []
    for spelled in formats:
        weights, _, activations = spelled.partition(" x ")
        for model in models:
            for n, k in MODELS[model]:
                problem = LinearProblem(n, k, weights, integers=bool(activations))
                schedule = default_schedule(problem, frozenset(host_features()), tokens)
                made.append(ScheduledLayer(model, problem, tokens, activations, schedule, False))
    return made


def gain(rounds: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Median and quartiles of the default's seconds over the winner's."""
    seconds = np.array(rounds)
    low, median, high = np.quantile(seconds[:, 0] / seconds[:, 1], (0.25, 0.5, 0.75))
    return float(median), float(low), float(high)


def main(words: Sequence[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m benchmarks.cpu_schedules", description=__doc__, formatter_class=raw
    )
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--formats", nargs="+", default=["int4<group=32>", "int8 x int8"])
    parser.add_argument("--tokens", default="6,12,20,128", help="rows of x, one table each")
    parser.add_argument("--database", type=Path, default=Path("cpu-schedules.db"))
    parser.add_argument("--builders", type=int, default=0)
    options = parser.parse_args(words)
    models = options.models.split(",")
    if unknown := set(models) - set(MODELS):
        parser.error(f"no models {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    console = Console()
    backend = BackendName(BACKEND, {"threads": options.threads}, exclusive=True)
    how = SessionOptions(trials=options.trials, resume=True, builders=options.builders)
    database = Database(options.database, console.print, create=True)
    gains: list[float] = []
    for rows in map(int, options.tokens.split(",")):
        found = layers(models, options.formats, rows)
        jobs = cpu_jobs(found, rows, options.threads)
        tunable = Tunable(f"cpu {cpu_model()}", backend, jobs)
        given = f"{rows} rows, {options.threads} threads, {options.trials} trials"
        gains += tabled(tunable, database, how, given, console)
    console.print(
        f"geometric mean of all gains {mean(gains):.3f}; worst {min(gains):.3f}, goal {GOAL}"
    )
    return 0


def tabled(
    tunable: Tunable, database: Database, how: SessionOptions, given: str, console: Console
) -> list[float]:
    """Tunes, compares and prints; the gain of each kind of layer."""
    shown = Table(title=f"tuned against default schedules, {given}, {cpu_model()}")
    for column in ("layer", "formats", "of", "default ms", "gain", "quartiles", "schedule"):
        shown.add_column(column)
    gains: list[float] = []
    progress = Lines(sys.stderr)
    with closing(make_executor(tunable, how)) as executor:
        for model_job, tuned in run_session(
            tunable, SEARCHES["distinctive"], database, how, progress
        ):
            sizes = tuned.job.task.problem
            cells = [
                f"{sizes['n']}x{sizes['k']}",
                tuned.job.task.format,
                ", ".join(model_job.layers),
            ]
            if tuned.kept_default:
                gains.append(1.0)
                shown.add_row(*cells, _milliseconds(tuned.default_seconds), "1.000", "", "default")
                continue
            pair = [tuned.job.default, tuned.best]
            rounds = executor.compare(tuned.job.task, pair, ROUNDS)
            if isinstance(rounds, NotCompared):
                shown.add_row(*cells, "", "", "", rounds.why)
                continue
            median, low, high = gain(rounds)
            gains.append(median)
            seconds = float(np.median(np.array(rounds)[:, 0]))
            changes = _changes(tuned)
            shown.add_row(
                *cells, _milliseconds(seconds), f"{median:.3f}", f"{low:.3f}, {high:.3f}", changes
            )
    console.print(shown)
    console.print(f"geometric mean of gains {mean(gains):.3f}; worst {min(gains):.3f}")
    return gains


def mean(gains: Sequence[float]) -> float:
    return exp(sum(map(log, gains)) / max(1, len(gains)))


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.3f}"


def _changes(tuned: Tuned) -> str:
    """What differs from the default."""
    default = tuned.job.default
    return " ".join(f"{name}={v}" for name, v in tuned.best.items() if default[name] != v)


if __name__ == "__main__":
    raise SystemExit(main())

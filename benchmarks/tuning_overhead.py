"""What a proposal costs on a space that nobody can enumerate."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from benchmarks.tuning_runs import BATCH
from benchmarks.tuning_tables import Table
from qcc.autotune.search import SEARCHES
from qcc.autotune.trials import Trial, Trials
from qcc.dialects.knobs import Configs, Constraint, Knob, Space

VALUES = tuple(range(1, 11))
SPACE = Space(
    "large",
    tuple(Knob(f"knob{i}", VALUES) for i in range(12)),
    tuple(
        Constraint((f"knob{i}", f"knob{i + 1}"), lambda a, b: (a + b) % 5 != 0, "sum")
        for i in range(11)
    ),
)
TRIALS = (32, 64, 128, 256)


def measured(configs: Configs) -> list[Trial]:
    slow = ((configs - 4) ** 2 * np.arange(1, configs.shape[1] + 1)).sum(axis=1)
    return [
        Trial(tuple(config), 1e-3 + 1e-6 * value)
        for config, value in zip(configs.tolist(), slow.tolist(), strict=True)
    ]


def overhead(strategies: Sequence[str]) -> Table:
    """Processor time of this process, so that a busy machine counts little."""
    rows = []
    for name in strategies:
        search, trials = SEARCHES[name].make(SPACE, np.random.default_rng(0)), Trials()
        cells, spent, since = [], 0.0, 0
        for until in TRIALS:
            while len(trials) < until:
                start = time.process_time()
                configs = search.propose(trials, min(BATCH, until - len(trials)))
                spent += time.process_time() - start
                trials.add(measured(configs))
            cells.append(f"{1e3 * spent / (until - since):.1f}")
            spent, since = 0.0, until
        rows.append((name, *cells))
    title = f"Milliseconds of a processor per proposed config, {SPACE.points:.0e} points"
    return Table(title, ("search", *(f"up to {count} trials" for count in TRIALS)), tuple(rows))

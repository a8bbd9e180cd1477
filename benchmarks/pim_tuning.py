"""
Tuned tilings on DPUs against the best of spaces that are small enough to simulate as a whole.

    python -m benchmarks.pim_tuning [--formats W1A3,W4A4] [--seeds 5] [--evaluations 64]

Every legal schedule of a space is simulated by the cycle model, launch and transfers included, for
the true optimum. Then searches are run on it as `qcc tune --target upmem` runs them: `distinctive`
begins where the estimate is best that needs no kernel; `without estimate` is the same search with
no prior, `random` draws. Printed is the time of what they found over that of the optimum, the
median and the worst of the seeds; goal: within 5 % after 64 evaluations.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.pim_goals import FORMATS, problem
from qcc.autotune.prior import with_prior
from qcc.autotune.search import SEARCHES
from qcc.autotune.search.base import Maker
from qcc.autotune.trials import Trial, Trials
from qcc.dialects.knobs import Configs, Space
from qcc.dialects.pim.cost import cost_of
from qcc.dialects.pim.device import Device, device
from qcc.dialects.pim.schedule import METHODS, Problem, Share
from qcc.dialects.pim.space import ESTIMATE, listed_space, schedule_of
from qcc.passes.choose_pim_schedule import Space as Candidates
from qcc.passes.choose_pim_schedule import candidates, simulated_cycles

GOAL, BATCH = 1.05, 8
CASES = (
    ((96, 192), 512, ((1, 64, 1), (2, 32, 2))),
    ((768, 384), 64, ((4, 16, 1), (1, 64, 1))),
)
"""(outputs, inputs), tokens, and the parts of rows, tokens and K that are allowed."""
FAMILIES = (("fly", "lanes"), METHODS)
DISTINCTIVE, PLAIN, RANDOM = "distinctive", "without estimate", "random"
MAKERS: dict[str, Maker] = {
    DISTINCTIVE: with_prior(SEARCHES["distinctive"], ESTIMATE),
    PLAIN: SEARCHES["distinctive"].make,
    RANDOM: SEARCHES["random"].make,
}


def enumerated(given: Problem, target: Device, methods: Sequence[str], grids) -> Space:
    """All legal schedules of a small space."""
    some = Candidates(methods=tuple(methods), groups=(4, 16), words=(1, 4), grids=grids)
    return listed_space(given, target, list(candidates(given, target, some)))


def simulated(given: Problem, target: Device, space: Space, console: Console) -> dict[int, float]:
    """Milliseconds of a call by the key of the config, for each member."""
    members = np.zeros((0, len(space.knobs)), np.int64) if space.members is None else space.members
    found = {}
    for config in track(members, space.name, console=console, transient=True):
        share = Share(given, schedule_of(space.values(config.tolist())))
        cost = cost_of(share, target, simulated_cycles(share, target))
        found[int(space.keys(config[None])[0])] = cost.total_ms
    return found


def tuned(space: Space, times: dict[int, float], make: Maker, seed: int, most: int) -> float:
    """The best milliseconds of one search."""
    search, trials = make(space, np.random.default_rng(seed)), Trials()
    while len(trials) < most:
        configs: Configs = search.propose(trials, min(BATCH, most - len(trials)))
        if not len(configs):
            break
        keys = space.keys(configs)
        trials.add(
            [
                Trial(tuple(config.tolist()), times[int(key)] / 1e3)
                for config, key in zip(configs, keys, strict=True)
            ]
        )
    return float(trials.best_so_far()[-1]) * 1e3


def main(words: Sequence[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m benchmarks.pim_tuning", description=__doc__, formatter_class=raw
    )
    parser.add_argument("--formats", default="W1A3,W4A4")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=64)
    options = parser.parse_args(words)
    formats = options.formats.split(",")
    if unknown := set(formats) - set(FORMATS):
        parser.error(f"no formats {', '.join(sorted(unknown))}; there are {', '.join(FORMATS)}")
    console, target = Console(), device("v1A")
    shown = Table(title=f"tuned / best after {options.evaluations} evaluations, median (worst) of "
                        f"{options.seeds} seeds, {target.name}")  # fmt: skip
    for column in ("format", "outputs x inputs", "tokens", "methods", "schedules", *MAKERS):
        shown.add_column(column)
    worst = dict.fromkeys(MAKERS, 1.0)
    for precision in formats:
        for shape, tokens, grids in CASES:
            for methods in FAMILIES:
                given = problem(shape, tokens, precision)
                space = enumerated(given, target, methods, grids)
                times = simulated(given, target, space, console)
                cells = []
                for name, make in MAKERS.items():
                    ratios = [
                        tuned(space, times, make, seed, options.evaluations) / min(times.values())
                        for seed in range(options.seeds)
                    ]
                    worst[name] = max(worst[name], *ratios)
                    cells.append(f"{np.median(ratios):.3f} ({max(ratios):.3f})")
                name = "all" if methods == METHODS else "+".join(methods)
                sizes = f"{shape[0]}x{shape[1]}"
                shown.add_row(precision, sizes, str(tokens), name, str(len(times)), *cells)
    console.print(shown)
    for name, ratio in worst.items():
        goal = f", goal {100 * (GOAL - 1):.0f} %" if name == DISTINCTIVE else ""
        console.print(f"{name}: at worst {100 * (ratio - 1):.2f} % from the best{goal}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""
Searches compared on recorded spaces: how many measurements each takes to come near the optimum.

    python -m benchmarks.tuning PLACE [--kernel-tuner] [--transfer] [--stop] [--overhead]

PLACE is a folder of cache files of Kernel Tuner (*.json, *.json.gz), for example from the FAIR
benchmark hub for auto-tuning, doi 10.5281/zenodo.15364124, or `made-up`: kernels and devices that
do not exist (benchmarks/made_up_kernels.py), on which the options of qcc's searches were chosen.
Runs are kept in --state, so that a stopped benchmark goes on where it was. With --kernel-tuner its
strategies are run through its own package, if that is installed, on the same files. With --transfer
each space is tuned with what the other spaces of the same knobs know. With --batch qcc's searches
propose so many at a time, in rows of their own where that is not 4. With --stop the claims of the
early stop are compared with what came true. --overhead adds what proposals take on a space
of 1e12 points. --output writes what is printed as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.peers.kernel_tuner import KERNEL_TUNER_STRATEGIES
from benchmarks.tuning_overhead import overhead
from benchmarks.tuning_runs import (
    BATCH,
    BUDGET,
    MADE_UP,
    Runner,
    State,
    Subject,
    own_runner,
    peer_runner,
    relatives,
    subjects_of,
    transfer_runner,
)
from benchmarks.tuning_stops import claims, stop_table
from benchmarks.tuning_tables import BY, PEERS, Curves, Table, tables
from qcc.autotune.search import SEARCHES
from qcc.dialects.errors import UnsupportedError

OURS = ("distinctive", "guided", "model-annealing", "evolution", "annealing", "random")


def runners(
    subjects: Sequence[Subject], options: argparse.Namespace
) -> Iterator[tuple[str, Subject, Runner]]:
    """Everything that is to be run: strategy, space, run of one seed."""
    for subject in subjects:
        for strategy in options.strategies:
            for batch in options.batch:
                name = strategy if batch == BATCH else f"{strategy}{BY}{batch}"
                yield name, subject, own_runner(subject, strategy, batch)
        if options.kernel_tuner and subject.path is not None:
            for strategy in KERNEL_TUNER_STRATEGIES:
                yield f"{PEERS}{strategy}", subject, peer_runner(subject.path, strategy)
        others = relatives(subject, subjects)
        if options.transfer and others:
            yield "transfer", subject, transfer_runner(subject, others)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("place", help=f"folder of recordings, or {MADE_UP}")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--batch", nargs="+", type=int, default=[BATCH], help="proposals of qcc at a time"
    )
    parser.add_argument("--strategies", nargs="+", default=list(OURS), choices=sorted(SEARCHES))
    parser.add_argument("--kernel-tuner", action="store_true")
    parser.add_argument("--transfer", action="store_true")
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--kept", action="store_true", help="run nothing: tables of the state")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--source", help="where the recordings are from, for the head of --output")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    options, console = arguments(words), Console()
    subjects = subjects_of(options.place, console)
    if not subjects:
        console.print(f"no recordings in {options.place}: give a folder of *.json or *.json.gz")
        return 2
    state = State(options.state)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    curves: Curves = {}
    jobs = list(runners(subjects, options))
    for strategy, subject, run in track(jobs, "replaying", console=console, transient=True):
        done = [s for s in seeds if not options.kept or state.has(strategy, subject.name, s)]
        try:
            found = [state.curve(strategy, subject.name, seed, run) for seed in done]
        except UnsupportedError as error:
            console.print(f"left out: {strategy} on {subject.name}: {error}", markup=False)
            continue
        if found:
            curves[strategy, subject.name] = found
    shown = tables({each.name: each.recording for each in subjects}, curves)
    if options.stop:
        shown.append(stop_table(claims(subjects, state, seeds, console, kept=options.kept)))
    if options.overhead:
        shown.append(overhead(options.strategies))
    title = f"up to {len(seeds)} seeds, {BUDGET} measurements, {BATCH} proposed at a time"
    for table in shown:
        console.print(table.rich(title))
    if options.output is not None:
        options.output.write_text(document(options, title, shown))
    return 0


def document(options: argparse.Namespace, title: str, shown: Sequence[Table]) -> str:
    made_up = "kernels and devices that do not exist"
    source = options.source or (made_up if options.place == MADE_UP else options.place)
    head = f"Recordings: {source}; {title}. Printed by `benchmarks.tuning`.\n"
    return "\n".join(["# Searches on recorded spaces\n", head, *(t.markdown() for t in shown)])


if __name__ == "__main__":
    sys.exit(main())

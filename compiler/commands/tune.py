"""
Find fast schedules for the layers of a model, by measuring.

MODEL, --weights, --recipe, --format and --target are those of `qcc compile`. Every measurement is
kept in the database at once: a tune that is stopped in any way goes on with --resume. `qcc compile
--schedules DATABASE` builds with what was found.

A schedule replaces the default only if it was clearly faster in runs that took turns with it.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ...dialects.errors import UnsupportedError, UsageError
from ..console import Console, Progress, table
from .argument_types import count, fraction, seed, slack
from .tune_table import tune_data, tune_text

if TYPE_CHECKING:
    from ...autotune.database import Database
    from ...autotune.search.base import Strategy
    from ...autotune.tuned import Tuned
    from ..options import CompileOptions
    from ..tuning.model_jobs import ModelJob, Tunable
    from ..tuning.session import SessionOptions

SUMMARY = "find fast schedules by measuring"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help="model.pt2, or module:factory")
    add("--weights", metavar="FILE", help="safetensors file, shard index or state dict")
    number_format = parser.add_mutually_exclusive_group()
    number_format.add_argument("--recipe", metavar="R", help="as for `qcc compile`")
    number_format.add_argument("--format", metavar="F", help="this format for every weight")
    add("--target", default="cpu", metavar="T", help="default: cpu")
    add("--operands", choices=["f16", "bf16"], default="f16", help="what tensor cores multiply")
    add("--device", default="v1A", metavar="D", help="upmem: v1A (default), v1B or a profile.toml")
    add("--dpus", type=count, metavar="N", help="upmem: of so many DPUs (default: all)")
    add("--example-inputs", metavar="X.npz", help="inputs to trace module:factory with")
    add("--allow-pickle", action="store_true", help="read pickled weights in a child process")
    add("--tokens", type=count, default=128, metavar="N", help="rows where the model leaves them")
    add("--measure", choices=["auto", "gpu", "static"], default="auto", help="cuda: see the docs")
    add("--context", type=count, default=4096, metavar="N", help="cuda: keys of a decoding step")
    add("--database", type=Path, metavar="F", help="by default the user's own")
    add("--resume", action="store_true", help="go on: trials in the database count")
    add("--trials", type=count, default=64, metavar="N", help="of each task (default: 64)")
    add("--minutes", type=slack, metavar="M", help="of all tasks; with --serve, without a job")
    add("--confidence", type=fraction, default=0.0, metavar="P", help="end a task early, see docs")
    add("--strategy", default="distinctive", metavar="S", help="a search (default: distinctive)")
    add("--seed", type=seed, default=0, metavar="N", help="of the search (default: 0)")
    add("--executor", default="local", metavar="E", help="local (default), directory:PATH, ray")
    add("--serve", metavar="PATH", type=Path, help="try what tuners post in this folder")
    add("--threads", type=count, metavar="N", help="cpu: of a kernel (default: all processors)")
    add("--builders", type=count, metavar="N", help="processes that build (default: processors)")
    add("--replay", metavar="F", type=Path, nargs="+", help="search a recording; others teach")
    add("--spaces", type=Path, metavar="DIR", help="write the spaces as T1 JSON; measure nothing")
    add("--timeout", type=slack, default=60.0, metavar="S", help="of a candidate (default: 60 s)")


def run(args: argparse.Namespace, console: Console) -> int:
    if args.serve is not None:
        return _serve(args, console)
    if args.replay:
        return _replay(args, console)
    if args.model is None:
        raise UsageError("tune-model", "no model was named", next_step="qcc tune MODEL …")
    return _write_spaces(args, console) if args.spaces else _tune(args, console)


def _write_spaces(args: argparse.Namespace, console: Console) -> int:
    from ..tuning.space_files import write_spaces

    with closing(console.progress()) as progress:
        rows = write_spaces(_tunable(args, progress), args.spaces)
    for row in rows:
        for rule in row["left_out"]:
            console.note(
                f"{row['file']}: no expression for the rule '{rule}'; it was left out, and refuses "
                f"{row['refused']:.0%} of what the others allow"
            )
    console.result(rows, table(rows, ["file", "points", "task"]))
    return 0


def _tune(args: argparse.Namespace, console: Console) -> int:
    strategy = _strategy(args.strategy)
    options = _session_options(args)
    with closing(console.progress()) as progress:
        progress.stage("open")
        database = _database(args, console)
        tunable = _tunable(args, progress)
        done: list[tuple[ModelJob, Tuned]] = []
        from ..tuning.session import run_session

        try:
            for each in run_session(tunable, strategy, database, options, progress):
                done.append(each)
        except (KeyboardInterrupt, SystemExit):
            console.note(f"what was measured is in {database.path}; go on with --resume")
            raise
    _tell_untried(console, [tuned for _, tuned in done])
    console.result(
        tune_data(database.path, done),
        tune_text(args.model, database.path, done, modelled=tunable.modelled),
    )
    return 0


def _tell_untried(console: Console, done: list[Tuned]) -> None:
    untried = [tuned.job.task.work for tuned in done if not tuned.tried]
    if untried:
        console.note(
            f"no time was left for {len(untried)} of {len(done)} tasks; go on with --resume: "
            + ", ".join(untried)
        )


def _replay(args: argparse.Namespace, console: Console) -> int:
    from ..tuning.replaying import replay, replay_report

    if args.model is not None:
        raise UsageError(
            "tune-model",
            "a recording is searched without a model",
            where=args.model,
            next_step="qcc tune --replay FILE…",
        )
    found = replay(args.replay, _strategy(args.strategy), _session_options(args))
    console.result(*replay_report(found))
    return 0


def _serve(args: argparse.Namespace, console: Console) -> int:
    from ..tuning.serving import serve_folder

    options = _session_options(args)
    with closing(console.progress()) as progress:
        progress.stage(f"serving {args.serve}")
        done = serve_folder(args.serve, options, options.seconds, progress.stage)
    console.result({"done": done}, f"{done} jobs done")
    return 0


def _strategy(name: str) -> Strategy:
    try:
        from ...autotune.search import SEARCHES
    except ImportError as error:
        raise UnsupportedError(
            "tune-extra",
            "searches need packages that are not installed",
            why=str(error),
            next_step="pip install 'qcc[tune]'",
        ) from error
    if name not in SEARCHES:
        raise UsageError(
            "strategy-unknown",
            f"there is no search strategy '{name}'",
            next_step=f"use one of {', '.join(SEARCHES)}",
        )
    return SEARCHES[name]


def _session_options(args: argparse.Namespace) -> SessionOptions:
    from ...autotune.measure.executors.local import Patience
    from ..tuning.session import SessionOptions

    return SessionOptions(
        trials=args.trials,
        seconds=None if args.minutes is None else 60 * args.minutes,
        seed=args.seed,
        executor=args.executor,
        resume=args.resume,
        confidence=args.confidence,
        builders=args.builders or 0,
        patience=Patience(run=args.timeout, build=2 * args.timeout),
    )


def _tunable(args: argparse.Namespace, progress: Progress) -> Tunable:
    from ..npz import read_npz
    from ..tuning.opening import open_tunable

    return open_tunable(
        args.model,
        _options(args),
        args.weights,
        read_npz(Path(args.example_inputs)) if args.example_inputs else None,
        args.allow_pickle,
        args.threads,
        progress,
        args.context,
        args.measure,
    )


def _options(args: argparse.Namespace) -> CompileOptions:
    """Ranges of static activations change no schedule: random samples do."""
    from ..options import CompileOptions
    from ..tuning.gpu_choice import target_here

    return CompileOptions(
        recipe={"default": {"weights": args.format}} if args.format else args.recipe,
        target=target_here(args.target),
        calibration="random",
        tokens=args.tokens,
        operands=args.operands,
        device=args.device,
        dpus=args.dpus,
    )


def _database(args: argparse.Namespace, console: Console) -> Database:
    """To go on needs one that exists."""
    from ...autotune.database import Database
    from ..tuning_database import default_path, writable

    if args.resume:
        return Database(args.database or default_path(), console.note)
    return writable(args.database, console)

"""
The `qcc` command: parse, run one verb, and turn every outcome into an exit code.

Exit codes are in docs/cli.md. This file imports neither NumPy nor torch nor MLIR; each verb under
commands/ imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from .. import __version__
from ..dialects.errors import QccError, QccWarning, UsageError
from .argument_parser import ArgumentParser, add_common
from .commands import VERBS
from .console import Console
from .out_of_memory import out_of_memory, ran_out
from .streams import silence, standard_streams

INTERRUPTED = 130
READER_GONE = 141
TERMINATED = 143

_EXIT_CODES = """\
exit codes:
  0  success
  1  internal error, a bug
  2  usage: a flag, argument, recipe or file that cannot be obeyed
  3  unsupported: an op, format, target or shape
  4  accuracy: results differ by more than their tolerance
  5  performance: slower than a baseline allows
  6  resource: memory, disk or a needed package is missing
  7  integrity: a damaged or hostile file
  130  interrupted (Ctrl-C)
  141  the reader of a pipe went away
  143  terminated (SIGTERM)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (by default the process's own) and return its exit code."""
    out, err = sys.stdout, sys.stderr
    if argv is None:
        argv = sys.argv[1:]
        out, err = standard_streams()
        signal.signal(signal.SIGTERM, _terminate)
    console = Console(out, err, json="--json" in argv)
    try:
        with _quiet_libraries(console, told="--traceback" in argv):
            return _run(argv, console)
    except BrokenPipeError:
        for stream in (out, err):
            silence(stream)
        return READER_GONE
    except KeyboardInterrupt:
        return console.stopped("interrupted", INTERRUPTED)
    except _Terminated:
        return console.stopped("terminated", TERMINATED)


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="qcc",
        description="Compile PyTorch models to verified reduced-precision code.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"qcc {__version__}")
    parser.add_argument(
        "--print-completion",
        metavar="SHELL",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print a completion script: bash, zsh or tcsh",
    )
    add_common(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        sub = verbs.add_parser(name, help=verb.SUMMARY, description=verb.__doc__)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        sub.set_defaults(parser=sub)
        add_common(sub)
        verb.add_arguments(sub)
    return parser


def _run(argv: Sequence[str], console: Console) -> int:
    try:
        with console.delivering():
            args = _parsed(argv)
        code = 0 if args is None else VERBS[args.verb].run(args, console)
        console.flush()
        return code
    except QccError as error:
        if "--traceback" in argv:
            traceback.print_exc()
        return console.failure(error)
    except (BrokenPipeError, _Terminated):
        raise
    except SystemExit as leaving:
        return console.failure(_left_early(leaving))
    except Exception as error:  # noqa: BLE001 - the last resort: any bug becomes a report
        if ran_out(error):
            return console.failure(out_of_memory())
        return console.failure(_internal_error(error, argv))


def _parsed(argv: Sequence[str]) -> argparse.Namespace | None:
    """The arguments; None where argparse has answered already, as for --help."""
    try:
        return make_parser().parse_all(argv)
    except SystemExit:
        return None


@contextmanager
def _quiet_libraries(console: Console, told: bool) -> Iterator[None]:
    """
    Python's warnings speak of lines of libraries; qcc says in its own words what a user can act on.

    `told` lets them through, for who looks into a failure.
    """

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, QccWarning):
            console.note(f"warning: {message}")

    with warnings.catch_warnings():
        if not told:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", QccWarning)
            # A library may add filters of its own when it is imported.
            warnings.showwarning = show
        yield


class _Terminated(SystemExit):
    """SIGTERM unwinds like an exception, so that staging files are removed."""


class _PrintCompletion(argparse.Action):
    """Prints the script and leaves."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, *_: Any
    ) -> None:
        import shtab  # needs 50 ms to import

        print(shtab.complete(parser, values))  # noqa: T201 - a script for the shell, not a message
        parser.exit()


def _internal_error(error: Exception, argv: Sequence[str]) -> QccError:
    """Describe a bug and keep what is needed to reproduce it."""
    traceback.print_exception(error)
    bundle = _write_reproducer(error, argv)
    return QccError(
        "internal",
        "qcc failed in a way it should not",
        why=f"{type(error).__name__}: {error}",
        next_step=f"please report it with the bundle {bundle}" if bundle else "please report it",
    )


def _write_reproducer(error: Exception, argv: Sequence[str]) -> str:
    """Path of the bundle; empty where none could be written, which must not hide the bug."""
    try:
        from .reproducer import write

        return str(write(error, list(argv)))
    except (ImportError, OSError, QccError):
        return ""


def _left_early(leaving: SystemExit) -> QccError:
    return UsageError(
        "left-early",
        f"the code that qcc was given left Python: SystemExit({str(leaving)[:200]})",
        where="a function named as module:function, or a module that it imports",
        why="only part of the work was done",
        next_step="let the function return instead of calling sys.exit()",
    )


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


if __name__ == "__main__":
    sys.exit(main())

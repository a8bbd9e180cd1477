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
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import __version__
from ..dialects.errors import QccError, ResourceError, UsageError
from .commands import VERBS
from .console import Console, silence

INTERNAL_ERROR = 1
INTERRUPTED = 130
READER_GONE = 141
TERMINATED = 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (by default the process's own) and return its exit code."""
    if argv is None:
        argv = sys.argv[1:]
        signal.signal(signal.SIGTERM, _terminate)
    console = Console(sys.stdout, sys.stderr, json="--json" in argv)
    try:
        return _run(argv, console)
    except BrokenPipeError:
        silence(sys.stdout)
        return READER_GONE
    except KeyboardInterrupt:
        console.note("interrupted; nothing was left half-written")
        return INTERRUPTED


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="qcc",
        description="Compile PyTorch models to verified reduced-precision code.",
        epilog="Exit codes: 0 success, 1 internal, 2 usage, 3 unsupported, 4 accuracy, "
        "5 performance, 6 resource, 7 integrity.",
    )
    parser.add_argument("--version", action="version", version=f"qcc {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print a completion script for this shell",
    )
    _add_common(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        sub = verbs.add_parser(name, help=verb.SUMMARY, description=verb.__doc__)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        _add_common(sub)
        verb.add_arguments(sub)
    return parser


def _run(argv: Sequence[str], console: Console) -> int:
    try:
        args = make_parser().parse_args(argv)
        code = VERBS[args.verb].run(args, console)
        console.flush()
        return code
    except QccError as error:
        if "--traceback" in argv:
            traceback.print_exc()
        console.failure(error)
        return error.exit_code
    except MemoryError:
        error = ResourceError(
            "out-of-memory",
            "the machine ran out of memory",
            next_step="close other programs, or compile on a machine with more memory",
        )
        console.failure(error)
        return error.exit_code
    except SystemExit as leaving:
        console.flush()
        return int(leaving.code or 0)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: any bug becomes a report
        console.failure(_internal_error(error, argv))
        return INTERNAL_ERROR


class _Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are UsageErrors."""

    def error(self, message: str) -> NoReturn:
        raise UsageError("usage", message, next_step=f"`{self.prog} --help` lists the arguments")


class _PrintCompletion(argparse.Action):
    """Prints the script and leaves."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, *_: Any
    ) -> None:
        import shtab  # needs 50 ms to import

        print(shtab.complete(parser, values))  # noqa: T201 - a script for the shell, not a message
        parser.exit()


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Flags that every verb takes, before or after its name."""
    for flag, text in (
        ("--json", "one JSON document on stdout, JSON events on stderr"),
        ("--traceback", "show the Python traceback of an error"),
    ):
        parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)


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


def _terminate(*_: object) -> NoReturn:
    """SIGTERM unwinds like an exception, so that staging files are removed."""
    raise SystemExit(TERMINATED)


if __name__ == "__main__":
    sys.exit(main())

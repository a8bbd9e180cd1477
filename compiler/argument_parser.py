"""
The argparse parser of the command line: its errors are UsageErrors that know the nearest word.

A flag is written in full: an abbreviation that works today would mean something else, or nothing,
when a flag is added. An empty value is refused where it is read, as an unset variable in a script
would otherwise name the current folder or silently mean the default.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from ..dialects.errors import UsageError


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, with qcc's errors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse_all(self, argv: Sequence[str]) -> argparse.Namespace:
        """
        Like `parse_args`; for what no verb takes, the nearest flag of the chosen one is named.

        Each subparser must set the default `parser` to itself.
        """
        args, rest = self.parse_known_args(argv)
        if rest:
            parser: ArgumentParser = args.parser
            parser._refuse(rest)
        return args

    def error(self, message: str) -> NoReturn:
        raise UsageError("usage", message, next_step=f"`{self.prog} --help` lists the arguments")

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse's own hides that a stream cannot be written."""
        (file or sys.stderr).write(message)

    def _refuse(self, rest: Sequence[str]) -> NoReturn:
        flag = next((word.partition("=")[0] for word in rest if word.startswith("-")), None)
        what = f"there is no flag '{flag}'" if flag else f"'{rest[0]}' is one argument too many"
        near = nearest(flag, self._option_string_actions) if flag else ""
        raise UsageError("usage", what, next_step=f"{near}`{self.prog} --help` lists the arguments")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """argparse's own list of choices does not say which is near."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        raise UsageError(
            "usage",
            f"'{value}' is no {str(action.metavar or action.dest).lower()}",
            why=f"it is one of {', '.join(choices)}",
            next_step=f"{nearest(str(value), choices)}`{self.prog} --help` explains them",
        )

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        # What follows a verb passes through here whole, before the verb's own parser reads it.
        if not arg_string and action.nargs != argparse.PARSER and action.default != "":
            raise argparse.ArgumentError(action, "its value is empty")
        return super()._get_value(action, arg_string)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Flags that every verb and each of its parts takes, before or after its name."""
    for flag, text in (
        ("--json", "one JSON document on stdout, JSON events on stderr"),
        ("--traceback", "show the Python traceback of an error"),
    ):
        parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)


def nearest(word: str, known: Iterable[str]) -> str:
    """
    "did you mean …? ", or nothing where none is near; dashes make no words alike.

    >>> nearest("--recpie", ["--recipe", "--device"])
    'did you mean --recipe? '
    """
    names = {name.lstrip("-"): name for name in known}
    near = get_close_matches(word.lower().lstrip("-"), names, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(names[name] for name in near)}? " if near else ""

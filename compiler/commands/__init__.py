"""The verbs of the command line, in the order of `qcc --help`; each is a file of this folder."""

from __future__ import annotations

import argparse
from typing import Protocol

from ..console import Console
from . import bench, compile, db, doctor, inspect, list, opt, plan, report, run, tune, verify


class Verb(Protocol):
    """A module with a docstring for `--help`, a one-line summary, and these two functions."""

    __doc__: str | None

    @property
    def SUMMARY(self) -> str: ...

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace, console: Console) -> int: ...


VERBS: dict[str, Verb] = {
    "compile": compile,
    "run": run,
    "verify": verify,
    "report": report,
    "inspect": inspect,
    "opt": opt,
    "plan": plan,
    "list": list,
    "doctor": doctor,
    "bench": bench,
    "tune": tune,
    "db": db,
}

"""List what this qcc knows: formats, passes, targets, recipes or ops."""

from __future__ import annotations

import argparse

from .. import listing
from ..console import Console, table

SUMMARY = "list formats, passes, targets, recipes or ops"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=sorted(listing.KINDS))


def run(args: argparse.Namespace, console: Console) -> int:
    rows = [
        {"name": name, "summary": summary} for name, summary in listing.KINDS[args.kind]().items()
    ]
    console.result(rows, table(rows, ["name", "summary"]))
    return 0

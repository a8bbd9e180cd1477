"""
Check an artifact: every hash, then its golden inputs against its golden outputs.

Exit code 4 when an output differs by more than its tolerance, 7 when the file is damaged.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ...dialects.errors import AccuracyError
from ..console import Console, table

SUMMARY = "check hashes and replay the golden inputs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="OUT.qcc", type=Path)


def run(args: argparse.Namespace, console: Console) -> int:
    from ..api import load

    result = load(args.artifact, verify=True).verify()
    passed = bool(result["passed"])
    rows = [
        {**output, "result": "pass" if output["passed"] else "FAIL"} for output in result["outputs"]
    ]
    columns = ["name", "max_abs_error", "max_rel_error", "tolerance", "result"]
    verdict = "PASS" if passed else "FAIL"
    console.result(result, f"{table(rows, columns)}\n{verdict} {args.artifact}")
    return 0 if passed else AccuracyError.exit_code

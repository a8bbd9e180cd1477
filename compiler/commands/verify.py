"""
Check an artifact: every hash, then its golden inputs against the golden outputs of each precision.

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
    parser.add_argument("--precision", metavar="NAME", help="this one only (default: all)")


def run(args: argparse.Namespace, console: Console) -> int:
    from ..api import load

    module = load(args.artifact, verify=True, precision=args.precision)
    names = [args.precision] if args.precision else module.precisions
    results = [module.at_precision(name).verify() for name in names]
    passed = all(result["passed"] for result in results)
    result = {
        "passed": passed,
        "outputs": [output for result in results for output in result["outputs"]],
        "golden": all(result["golden"] for result in results),
    }
    rows = [
        {**output, "result": "pass" if output["passed"] else "FAIL"} for output in result["outputs"]
    ]
    columns = ["name", "precision", "max_abs_error", "max_rel_error", "tolerance", "result"]
    verdict = "PASS" if passed else "FAIL"
    if not result["outputs"]:
        console.note("golden outputs are not stored: only hashes were checked")
    console.result(result, f"{table(rows, columns)}\n{verdict} {args.artifact}")
    return 0 if passed else AccuracyError.exit_code

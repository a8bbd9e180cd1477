"""
Check an artifact: every hash, then its golden inputs against the golden outputs of each precision.

Exit code 4 when an output differs by more than its tolerance, 7 when the file is damaged.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...dialects.errors import AccuracyError
from ..console import Console, table

SUMMARY = "check hashes and replay the golden inputs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="OUT.qcc", type=Path)
    parser.add_argument("--emulate", action="store_true", help="run kernels for a GPU on the CPU")
    parser.add_argument("--precision", metavar="NAME", help="this one only (default: all)")


def run(args: argparse.Namespace, console: Console) -> int:
    from ..api import load

    module = load(args.artifact, verify=True, precision=args.precision, emulate=args.emulate)
    names = [args.precision] if args.precision else module.precisions
    results = [module.at_precision(name).verify() for name in names]
    passed = all(result["passed"] for result in results)
    result = {
        "passed": passed,
        "outputs": [output for result in results for output in result["outputs"]],
        "golden": all(result["golden"] for result in results),
        "emulated": any(result["emulated"] for result in results),
    }
    if result["emulated"]:
        console.note("no GPU was found: the emulator ran the kernels, and no binary was checked")
    for name, each in zip(names, results, strict=True):
        if not each["golden"]:
            console.note(
                f"{name}: no golden outputs are stored, so only hashes were checked: "
                f"{each['reason']}; next: {each['next_step']}"
            )
    console.result(result, _text(args.artifact, result))
    return 0 if passed else AccuracyError.exit_code


def _text(artifact: Path, result: dict[str, Any]) -> str:
    verdict = "PASS" if result["passed"] else "FAIL"
    if not result["outputs"]:
        return f"{verdict} {artifact}: hashes only"
    rows = [
        {
            "output": output["name"],
            "precision": output["precision"],
            "difference": output["max_abs_error"],
            "relative": output["max_rel_error"],
            "allowed": output["tolerance"],
            "result": "pass" if output["passed"] else "FAIL",
        }
        for output in result["outputs"]
    ]
    return (
        f"{table(rows, list(rows[0]))}\n"
        "difference: the largest between code and golden output; relative, and what is allowed: "
        "divided by the largest value of the golden output\n"
        f"{verdict} {artifact}"
    )

"""
Run passes on a textual IR file and print the result.

The pipeline is a comma-separated list of pass names (`qcc list passes`) and of MLIR's own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...dialects.errors import ResourceError, UsageError
from ..console import Console
from ..file_kind import kind_of
from ..publish import publish_bytes, spare_inputs

SUMMARY = "run passes on a .mlir file"
# Weights are not in the IR, so real modules are a few megabytes.
_LARGEST = 256 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN.mlir", help="a file, or - for standard input")
    parser.add_argument("--pipeline", metavar="P", help='as in "pass-a,pass-b"')
    parser.add_argument("-o", "--output", metavar="OUT.mlir", type=Path)
    parser.add_argument("--print-ir-after-all", metavar="DIR", type=Path)


def run(args: argparse.Namespace, console: Console) -> int:
    if args.output:
        spare_inputs(args.output, [args.input])
    source = _read(args.input)
    from ..opt import run_pipeline

    try:
        text = run_pipeline(source, args.pipeline or "", args.print_ir_after_all)
    except UsageError as error:
        error.where = error.where or args.input
        raise
    if args.output:
        publish_bytes(args.output, text.encode())
        console.result({"output": str(args.output)}, "")
    else:
        console.result({"ir": text}, text)
    return 0


def _why(name: str, error: Exception) -> str:
    kind = "" if name == "-" or isinstance(error, OSError) else kind_of(Path(name))
    return f"it is {kind}" if kind else getattr(error, "strerror", None) or str(error)


def _read(name: str) -> str:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(_LARGEST + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(
            "ir-unreadable",
            f"cannot read '{name}'",
            why=_why(name, error),
            next_step="give a file of textual IR, or - for standard input",
        ) from error
    if len(data) > _LARGEST:
        raise ResourceError("ir-too-large", f"'{name}' is larger than {_LARGEST >> 20} MiB")
    return text

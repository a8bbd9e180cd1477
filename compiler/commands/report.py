"""
Write the report of an artifact as one HTML file that needs nothing else.

With --json the report's data goes to stdout, and HTML is written only where -o asks for it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console import Console
from ..publish import publish_bytes, spare_inputs

SUMMARY = "write a self-contained HTML report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="OUT.qcc", type=Path)
    parser.add_argument("-o", "--output", metavar="R.html", type=Path)


def run(args: argparse.Namespace, console: Console) -> int:
    from ..artifact import Artifact
    from ..html.page import render
    from ..report_data import decode_report

    with Artifact.open(args.artifact) as artifact:
        target = args.output
        if target is None and not console.json:
            target = args.artifact.with_suffix(".html")
        if target is not None:
            spare_inputs(target, [args.artifact])
        data = artifact.read("report.json")
        report = decode_report(data, where=str(args.artifact))
        html = render(report, artifact.manifest)
    if target is not None:
        publish_bytes(target, html.encode())
    console.result(report, f"wrote {target}")
    return 0
